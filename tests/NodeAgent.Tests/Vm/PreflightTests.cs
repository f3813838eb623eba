using Bgsnap.NodeAgent.Capture;
using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Tests.Qmp;
using Bgsnap.NodeAgent.Vm;

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

        CaptureRefusedException e = Assert.Throws<CaptureRefusedException>(() => Preflight.Check(qmp));

        Assert.Equal(reason, e.Reason);
        Assert.Contains(remedy, e.Message, StringComparison.Ordinal);
    }
}
