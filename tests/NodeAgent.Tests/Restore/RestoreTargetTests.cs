using Bgsnap.Engine.Restore;

namespace Bgsnap.NodeAgent.Tests.Restore;

public class RestoreTargetTests
{
    [Theory]
    [InlineData("qemu -m 64 -incoming defer -S", "defer")]
    [InlineData("qemu --incoming tcp:0:4444", "tcp:0:4444")]
    [InlineData("qemu -name -incoming", null)]
    [InlineData("qemu", null)]
    [InlineData("qemu -incoming defer -incoming unix:/x", "unix:/x")] // QEMU takes the last
    public void What_it_expects_stands_on_its_command_line(string line, string? expected) =>
        Assert.Equal(expected, RestoreTarget.IncomingArgument(line.Split(' ')));
}
