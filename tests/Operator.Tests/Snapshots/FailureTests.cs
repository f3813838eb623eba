using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Tests.InMemory;

namespace Bgsnap.Operator.Tests.Snapshots;

/// <summary>The agent fails, does not answer, or is too slow.</summary>
public sealed class FailureTests
{
    [Fact]
    public async Task A_capture_that_failed_says_why_and_leaves_nothing()
    {
        await using World world = await TestObjects.WithVm();
        world.Agents.CaptureFails = ("DiskFull", "no space left on claim snapshots: enlarge it, then create another snapshot");
        await world.Add(TestObjects.Snapshot("a"));
        await world.UntilPhase("a", SnapshotPhase.Failed);
        await world.Steps(2);
        Assert.Equal(
            "False DiskFull: no space left on claim snapshots: enlarge it, then create another snapshot",
            world.Condition("a", ConditionTypes.Ready)
        );
        Assert.StartsWith("True DiskFull: no space", world.Condition("a", ConditionTypes.Stalled), StringComparison.Ordinal);
        Assert.Equal("False DiskFull: ", world.Condition("a", ConditionTypes.Reconciling));
        Assert.Equal("Warning SnapshotFailed", world.Events("a").Last());
        Assert.StartsWith("DiskFull: no space left", world.EventObjects("a").Last().Message, StringComparison.Ordinal);
        Assert.Null(world.Snapshot("a").Status!.Directory);
        Assert.NotNull(world.Snapshot("a").Status!.CompletionTime);
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);
        await world.Steps(60);
        Assert.Equal(1, world.TasksEver(TaskAction.Capture));
    }

    [Fact]
    public async Task The_directory_of_a_capture_whose_agent_died_is_remembered()
    {
        await using World world = await TestObjects.WithVm();
        world.Agents.CaptureFails = ("AgentRestarted", "the agent was restarted in the middle of the capture");
        await world.Add(TestObjects.Snapshot("a"));
        await world.UntilPhase("a", SnapshotPhase.Failed);
        Assert.Equal("a-00000003", world.Snapshot("a").Status!.Directory);
    }

    [Fact]
    public async Task An_agent_that_gives_no_reason_is_still_a_failure()
    {
        await using World world = await TestObjects.WithVm();
        world.Agents.CaptureFails = (null!, null!);
        await world.Add(TestObjects.Snapshot("a"));
        await world.UntilPhase("a", SnapshotPhase.Failed);
        Assert.Equal("False Failed: the agent gave no reason", world.Condition("a", ConditionTypes.Ready));
    }

    [Fact]
    public async Task A_node_without_an_agent_is_reported_after_a_while_and_may_get_one()
    {
        await using World world = await TestObjects.WithVm();
        world.Agents.Dead = true;
        await world.Add(TestObjects.Snapshot("a"));
        await world.Steps(20);
        Assert.Equal("False CaptureOrdered: waiting for the agent on node node-1 to start", world.Condition("a", ConditionTypes.Ready));
        await world.Steps(30);
        Assert.StartsWith(
            "False AgentSilent: no agent on node node-1 has taken the task: check that",
            world.Condition("a", ConditionTypes.Ready),
            StringComparison.Ordinal
        );
        Assert.Equal(SnapshotPhase.Capturing, world.Snapshot("a").Status!.Phase);
        Assert.Contains("Normal AgentSilent", world.Events("a"));
        world.Agents.Dead = false;
        await world.UntilPhase("a", SnapshotPhase.Ready);
    }

    [Fact]
    public async Task Not_started_by_its_deadline_it_fails_with_its_last_status()
    {
        await using World world = await TestObjects.WithVm();
        world.Node.Unschedulable = "0/1 nodes are available";
        await world.Add(TestObjects.Snapshot("a", change: s => s.Capture = new CaptureSpec { Deadline = "1m" }));
        await world.Steps(59);
        Assert.Equal(SnapshotPhase.Preparing, world.Snapshot("a").Status!.Phase);
        await world.Steps(3);
        Assert.Equal(
            "False DeadlineExceeded: the snapshot was not Ready within 00:01:00 of its creation; last status: pod "
                + "a-00000003-carrier, which mounts claim snapshots on node node-1, cannot be scheduled: 0/1 nodes are available",
            world.Condition("a", ConditionTypes.Ready)
        );
        await world.Steps(2);
        Assert.Empty(world.Carriers);
        Assert.Equal(0, world.TasksEver(TaskAction.Capture));
    }

    [Fact]
    public async Task Without_a_deadline_of_its_own_it_is_an_hour()
    {
        await using World world = new();
        await world.Add(TestObjects.Snapshot("a"));
        await world.Step();
        world.Clock.Advance(TimeSpan.FromMinutes(59));
        await world.Steps(10);
        Assert.Equal(SnapshotPhase.Pending, world.Snapshot("a").Status!.Phase);
        world.Clock.Advance(TimeSpan.FromMinutes(1));
        await world.UntilPhase("a", SnapshotPhase.Failed, 10);
        Assert.Contains(
            "within 01:00:00 of its creation; last status: pod db does not exist",
            world.Condition("a", ConditionTypes.Ready),
            StringComparison.Ordinal
        );
    }

    [Fact]
    public async Task Not_ended_by_its_deadline_the_capture_is_cancelled()
    {
        await using World world = await TestObjects.WithVm();
        world.Agents.Slow = true;
        await world.Add(TestObjects.Snapshot("a", change: s => s.Capture = new CaptureSpec { Deadline = "30s" }));
        await world.Steps(29);
        Assert.Equal(SnapshotPhase.Capturing, world.Snapshot("a").Status!.Phase);
        await world.UntilPhase("a", SnapshotPhase.Failed, 5);
        Assert.Equal(
            "False DeadlineExceeded: the snapshot was not Ready within 00:00:30 of its creation and was cancelled: cancelled; "
                + "the guest runs "
                + "on and nothing was kept",
            world.Condition("a", ConditionTypes.Ready)
        );
        Assert.Null(world.Snapshot("a").Status!.Directory);
        await world.Steps(2);
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);
    }

    [Fact]
    public async Task An_agent_that_does_not_answer_the_cancellation_is_ignored_after_a_while()
    {
        await using World world = await TestObjects.WithVm();
        world.Agents.Slow = true;
        await world.Add(TestObjects.Snapshot("a", change: s => s.Capture = new CaptureSpec { Deadline = "30s" }));
        await world.Until(() => world.Snapshot("a").Status?.Progress?.Percent == 50, "half is done");
        world.Agents.Dead = true;
        await world.Steps(60);
        Assert.Equal(SnapshotPhase.Capturing, world.Snapshot("a").Status!.Phase);
        Assert.True(world.All(Resources.Tasks).Single().Spec.Cancel);
        await world.UntilPhase("a", SnapshotPhase.Failed, 70);
        Assert.Contains(
            "the agent on node node-1 did not answer the cancellation",
            world.Condition("a", ConditionTypes.Ready),
            StringComparison.Ordinal
        );
        Assert.Equal("a-00000003", world.Snapshot("a").Status!.Directory); // some of its files may exist
        await world.Steps(3);
        Assert.Empty(world.All(Resources.Tasks));
    }

    [Fact]
    public async Task A_snapshot_ready_just_before_its_deadline_is_Ready_even_if_seen_later()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(TestObjects.Snapshot("a", change: s => s.Capture = new CaptureSpec { Deadline = "30s" }));
        await world.Until(() => world.Agents.Directories.Count == 1, "the agent is done");
        world.Clock.Advance(TimeSpan.FromMinutes(10)); // no operator led meanwhile
        await world.Restart();
        await world.UntilPhase("a", SnapshotPhase.Ready, 3);
    }
}
