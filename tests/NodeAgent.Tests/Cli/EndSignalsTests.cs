using System.Runtime.InteropServices;
using Bgsnap.Linux;

namespace Bgsnap.NodeAgent.Tests.Cli;

public sealed partial class EndSignalsTests
{
    [Fact]
    public void A_handler_that_throws_ends_nothing()
    {
        using ManualResetEventSlim asked = new();
        using EndSignals signals = new(() =>
        {
            asked.Set();
            throw new InvalidOperationException("cancelling failed");
        });
        Assert.Equal(0, Kill(Environment.ProcessId, 15));
        Assert.True(asked.Wait(TimeSpan.FromSeconds(30)));
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int pid, int signal);
}
