using Bgsnap.Engine.Capture;
using Bgsnap.Qemu;

namespace Bgsnap.NodeAgent.Tests.Capture;

public sealed class BothReasonsTests
{
    private const string First = "chosen by auto: the agent engine does not work here: ptrace is denied";

    [Fact]
    public void Of_two_engines_that_cannot_both_reasons_are_said()
    {
        EngineUnavailableException u = Assert.IsType<EngineUnavailableException>(
            CaptureRun.WithBothReasons(new EngineUnavailableException("no background-snapshot"), First)
        );
        Assert.Equal($"QEMU's own engine: no background-snapshot. It was {First}", u.Message);
        RefusedException r = Assert.IsType<RefusedException>(
            CaptureRun.WithBothReasons(new RefusedException("GuestNotRunning", "paused"), First)
        );
        Assert.Equal(("GuestNotRunning", $"QEMU's own engine: paused. It was {First}"), (r.Reason, r.Message));
        Assert.Null(CaptureRun.WithBothReasons(new EngineUnavailableException($"it says ({First})"), First));
        Assert.Null(CaptureRun.WithBothReasons(new OperationCanceledException(), First));
    }
}
