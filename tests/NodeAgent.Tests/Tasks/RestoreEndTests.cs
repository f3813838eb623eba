using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Tasks;

namespace Bgsnap.NodeAgent.Tests.Tasks;

public sealed class RestoreEndTests
{
    [Theory]
    [InlineData(null, "running", null)]
    [InlineData(null, "paused", "GuestPaused")]
    [InlineData("cannot be thawed while it does not run", "paused", "GuestFrozen")]
    [InlineData("the guest agent is silent", "running", "GuestFrozen")]
    public void A_guest_that_does_not_work_yet_is_a_success_that_says_what_is_left_to_do(string? frozen, string state, string? reason)
    {
        SnapshotTaskStatus end = RestoreWork.Succeeded(frozen, state);

        Assert.Equal((TaskPhase.Succeeded, reason), (end.Phase, end.Reason));
        Assert.Equal(reason is null, end.Message is null);
    }
}
