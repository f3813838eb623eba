using Bgsnap.Engine.Capture;
using Bgsnap.NodeAgent.Tests.Qmp;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;

namespace Bgsnap.NodeAgent.Tests.Vm;

/// <summary>The agent refuses a guest in an unsuitable state, and tells its user what to do.</summary>
public class PreflightTests
{
    [Theory]
    [InlineData("io-error", "GuestNotRunning", "query-block's io-status")]
    [InlineData("suspended", "GuestSuspended", "system_wakeup")]
    [InlineData("inmigrate", "GuestNotRunning", "'inmigrate'")]
    public void The_state_and_its_remedy_are_named(string state, string reason, string remedy)
    {
        using FakeQmpServer server = FakeQmpServer.Greeted(s =>
        {
            s.ReadCommand();
            s.Send($$$"""{"return": {"running": false, "singlestep": false, "status": "{{{state}}}"}}""");
            s.Keep();
        });
        using QmpClient qmp = QmpClient.Connect(server.Path);

        RefusedException e = Assert.Throws<RefusedException>(() => Preflight.Check(qmp));

        Assert.Equal(reason, e.Reason);
        Assert.Contains(remedy, e.Message, StringComparison.Ordinal);
    }
}
