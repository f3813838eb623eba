using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.Tests.InMemory;
using static Bgsnap.Operator.Tests.Restores.RestoreObjects;

namespace Bgsnap.Operator.Tests.Restores;

/// <summary>A restore is deleted in any phase, or the snapshot that it reads is.</summary>
public sealed class RemovalTests
{
    [Theory]
    [InlineData(RestorePhase.Pending)]
    [InlineData(RestorePhase.Preparing)]
    [InlineData(RestorePhase.Queued)]
    [InlineData(RestorePhase.WritingDisks)]
    [InlineData(RestorePhase.Starting)]
    [InlineData(RestorePhase.Restoring)]
    [InlineData(RestorePhase.Ready)]
    [InlineData(RestorePhase.Failed)]
    public async Task Deleted_in_any_phase_it_leaves_a_running_guest_or_nothing(string phase)
    {
        await using World world = await WithSnapshot(new OperatorOptions { AgentImage = "x", MaxConcurrentRestores = 1 });
        if (phase == RestorePhase.Queued)
        {
            world.Agents.Slow = true;
            await world.Add(IntoTemplate("z"));
            await world.UntilRestore("z", RestorePhase.WritingDisks);
        }
        VMBackgroundRestore r = IntoTemplate("r");
        if (phase == RestorePhase.Pending)
            r.Spec.SnapshotName = "missing";
        if (phase == RestorePhase.Preparing)
            world.Node.Stuck = ("ContainerCreating", "");
        if (phase == RestorePhase.WritingDisks)
            world.Agents.Slow = true;
        if (phase == RestorePhase.Starting)
            world.Node.VmStuck = ("ContainerCreating", "");
        if (phase == RestorePhase.Failed)
            world.Agents.RestoreFails = ("MachineMismatch", "");
        await world.Add(r);
        await world.UntilRestore("r", phase);
        world.Agents.Slow |= phase == RestorePhase.Restoring;
        await world.DeleteRestore("r");
        world.Node.Stuck = null;
        await world.Until(() => world.FindRestore("r") is null, "the restore is gone", 120);
        await world.Steps(3);
        Assert.Equal(phase == RestorePhase.Ready, world.Pod("vm-r") is not null);
        Assert.Equal(phase == RestorePhase.Ready, world.Claim("a-r") is not null);
        Assert.DoesNotContain(world.All(Resources.Tasks), t => t.Metadata.Name.StartsWith("r-", StringComparison.Ordinal));
        Assert.DoesNotContain(world.Carriers, c => c.Metadata.Name.StartsWith("r-", StringComparison.Ordinal));
        Assert.Empty(world.Problems);
        // The slot on the node is free again.
        (world.Agents.Slow, world.Agents.RestoreFails, world.Node.VmStuck) = (false, null, null);
        await world.Add(IntoTemplate("next"));
        await world.UntilRestore("next", RestorePhase.Ready, 60);
    }

    [Fact]
    public async Task A_dead_agent_delays_the_deletion_for_a_minute()
    {
        await using World world = await WithSnapshot();
        world.Agents.Slow = true;
        await world.Add(IntoTemplate("r"));
        await world.UntilRestore("r", RestorePhase.WritingDisks);
        await world.Steps(2);
        world.Agents.Dead = true;
        await world.DeleteRestore("r");
        await world.Steps(50);
        Assert.True(world.All(Resources.Tasks).Single().Spec.Cancel);
        await world.Steps(20);
        Assert.Null(world.FindRestore("r"));
        Assert.Contains("Warning AgentSilent", world.Events("r"));
        Assert.Null(world.Claim("a-r"));
    }

    [Theory]
    [InlineData("ends")]
    [InlineData("fails")]
    [InlineData("is deleted")]
    public async Task A_snapshot_that_is_being_restored_stays_until_the_restore(string what)
    {
        await using World world = await WithSnapshot();
        world.Agents.Slow = true;
        await world.Add(IntoTemplate("r"));
        await world.UntilRestore("r", RestorePhase.WritingDisks);
        await world.Delete("s");
        await world.Steps(20);
        Assert.Equal(
            "False InUseByRestore: VMBackgroundRestore r reads the snapshot, which is removed once that restore has ended or is deleted",
            world.Condition("s", ConditionTypes.Ready)
        );
        Assert.Single(world.Agents.Directories);
        Assert.Equal(1, world.Events("s").Count(e => e == "Warning InUseByRestore"));
        // No other restore may begin.
        await world.Add(IntoTemplate("late"));
        await world.UntilRestore("late", RestorePhase.Failed, 5);
        Assert.StartsWith("False SnapshotDeleted", world.RestoreCondition("late"), StringComparison.Ordinal);

        world.Agents.Slow = false;
        if (what == "fails")
            world.Agents.RestoreFails = ("MachineMismatch", "");
        if (what == "is deleted")
            await world.DeleteRestore("r");
        else
            await world.UntilRestore("r", what == "ends" ? RestorePhase.Ready : RestorePhase.Failed);
        DateTimeOffset ended = world.Clock.GetUtcNow();
        await world.Until(() => world.Find("s") is null, "the snapshot is gone", 60);
        Assert.Empty(world.Agents.Directories);
        if (what != "is deleted")
            Assert.InRange(world.Clock.GetUtcNow() - ended, TimeSpan.Zero, TimeSpan.FromSeconds(12)); // by the watch, not by polling
        Assert.Equal(what == "ends", world.Pod("vm-r") is not null);
    }

    // The copy is stale: the snapshot has been deleted, and the watch has not reported it yet.
    [Fact]
    public async Task A_snapshot_deleted_at_the_last_moment_is_not_restored()
    {
        await using World world = await WithSnapshot();
        world.Fault = (_, r) =>
        {
            // The snapshot is deleted between the look at the copy and the save.
            if (r is { Verb: "patch", Plural: "vmbackgroundrestores", Subresource: null })
                world.Delete("s").Wait();
            return Fault.None;
        };
        world.Agents.Dead = true;
        await world.Add(IntoTemplate("r"));
        await world.UntilRestore("r", RestorePhase.Failed);
        Assert.StartsWith("False SnapshotDeleted", world.RestoreCondition("r"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_new_leader_counts_running_captures_before_it_starts_others()
    {
        await using World world = await WithSnapshot(new OperatorOptions { AgentImage = "x", MaxConcurrentRestores = 1 });
        world.Agents.Slow = true;
        await world.Add(IntoTemplate("z"));
        await world.UntilRestore("z", RestorePhase.WritingDisks);
        await world.Restart();
        await world.Add(IntoTemplate("a"));
        await world.Steps(6);
        Assert.Equal("False Queued: number 1 in the queue of node node-9, which restores 1 at a time", world.RestoreCondition("a"));
        Assert.Equal(1, world.TasksEver(TaskAction.RestoreDisks));
        world.Agents.Slow = false;
        await world.UntilRestore("a", RestorePhase.Ready);
        Assert.Equal(1, world.Agents.MostRestores);
    }

    [Fact]
    public async Task Helpers_of_a_restore_that_needs_none_are_swept_and_its_VM_is_not()
    {
        await using World world = await WithSnapshot();
        await world.Add(IntoTemplate("r"));
        await world.UntilRestore("r", RestorePhase.Ready);
        await world.Steps(3);
        PodSummary left = new()
        {
            Metadata = Bgsnap.Operator.Shared.RestoreNaming.Made(world.Restore("r"), "r-left"),
            Spec = new PodSpecSummary { NodeName = "node-9" },
        };
        await world.Api.Create(Resources.Pods, left, default);
        await world.Operator.Settle();
        Assert.Equal(1, await world.Operator.Orphans.Sweep(default));
        Assert.Null(world.Pod("vm-r")!.Metadata.DeletionTimestamp);
    }
}
