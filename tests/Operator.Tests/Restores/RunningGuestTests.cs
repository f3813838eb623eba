using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Tests.InMemory;
using static Bgsnap.Operator.Tests.Restores.RestoreObjects;

namespace Bgsnap.Operator.Tests.Restores;

/// <summary>Mode Instant: the guest runs, and whatever the rest of its RAM needs stays until it has arrived.</summary>
public sealed class RunningGuestTests
{
    [Fact]
    public async Task It_is_Ready_when_the_guest_runs_and_releases_the_snapshot_when_all_RAM_has_arrived()
    {
        await using World world = await Running();
        RestoreStatus s = world.Restore("r").Status!;
        Assert.Equal(("Instant", "asked for", "35ms", "resident 50%"), (s.Mode, s.ModeReason, s.TimeToRun, s.Progress!.Text));
        Assert.Equal((12L, "0.09ms"), (s.Faults!.Count, s.Faults.P99));
        Assert.StartsWith("True GuestRuns: ", world.RestoreCondition("r"), StringComparison.Ordinal);
        Assert.StartsWith("False RamArrives: ", world.RestoreCondition("r", ConditionTypes.Resident), StringComparison.Ordinal);
        Assert.StartsWith("False GuestRuns: ", world.RestoreCondition("r", ConditionTypes.Reconciling), StringComparison.Ordinal);
        Assert.Contains("Normal RestoreReady", world.Events("r"));
        DateTime? ran = s.CompletionTime;

        // The claim stays mounted for the agent, and the snapshot stays.
        await world.Delete("s");
        await world.Steps(30);
        Assert.NotNull(world.Find("s"));
        Assert.Single(world.Carriers);
        Assert.NotNull(Order(world));

        world.Agents.Slow = false;
        await world.UntilRestore("r", RestorePhase.Ready);
        await world.Until(() => world.Find("s") is null, "the snapshot can go");
        s = world.Restore("r").Status!;
        Assert.Equal(("100%", "35ms", ran), (s.Progress!.Text, s.TimeToRun, s.CompletionTime));
        Assert.StartsWith("True AllRamArrived: ", world.RestoreCondition("r", ConditionTypes.Resident), StringComparison.Ordinal);
        Assert.Equal(1, world.Events("r").Count(e => e == "Normal RestoreReady"));
        Assert.Contains("Normal Resident", world.Events("r"));
        Assert.Empty(world.Carriers);
        Assert.Empty(world.Problems);
    }

    [Fact]
    public async Task The_task_contains_the_mode_and_the_limit()
    {
        await using World world = await WithSnapshot();
        await world.AddPod(TestObjects.VmPod(Vm, "node-2"));
        VMBackgroundRestore r = IntoPod("r");
        (r.Spec.Mode, r.Spec.BandwidthLimit) = (RestoreMode.Eager, "200Mi");
        world.Agents.Dead = true;
        await world.Add(r);
        await world.Until(() => world.All(Resources.Tasks).Count == 1, "the task is there");
        TaskRestore order = world.All(Resources.Tasks).Single().Spec.Restore!;
        Assert.Equal((RestoreMode.Eager, "200Mi"), (order.Mode, order.BandwidthLimit));
    }

    [Fact]
    public async Task A_running_guest_is_kept_at_the_deadline()
    {
        await using World world = await Running("1m");
        await world.Steps(90);
        Assert.Equal(RestorePhase.Running, world.Restore("r").Status!.Phase);
        Assert.Null(Order(world).Spec.Cancel);
    }

    [Fact]
    public async Task A_deleted_restore_stays_until_all_RAM_has_arrived_and_leaves_pod_and_claims()
    {
        await using World world = await Running();
        await world.DeleteRestore("r");
        await world.Steps(90);
        Assert.Null(Order(world).Spec.Cancel);
        world.Agents.Slow = false;
        await world.Until(() => world.FindRestore("r") is null, "the restore is gone", 60);
        await world.Steps(3);
        Assert.NotNull(world.Pod("vm-r"));
        Assert.NotNull(world.Claim("a-r"));
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task An_interrupted_transfer_gets_a_new_task(bool deleted)
    {
        await using World world = await Running();
        world.Agents.RestoreFails = ("CarrierEnded", "pod r-carrier has ended");
        if (deleted)
            await world.DeleteRestore("r");
        world.Agents.Slow = false;
        await world.Until(
            () =>
                world
                    .RestoreCondition("r", ConditionTypes.Resident)
                    .StartsWith("False CarrierEnded: pod r-carrier has ended; the guest waits", StringComparison.Ordinal),
            "it is told"
        );
        Assert.Contains("Warning CarrierEnded", world.Events("r"));
        Assert.StartsWith("True GuestRuns: ", world.RestoreCondition("r"), StringComparison.Ordinal);

        world.Agents.RestoreFails = null;
        if (deleted)
            await world.Until(() => world.FindRestore("r") is null, "the restore is gone", 120);
        else
            await world.UntilRestore("r", RestorePhase.Ready);

        Assert.True(world.TasksEver(TaskAction.Restore) >= 2, "ordered anew");
        Assert.Equal(1, world.TasksEver(TaskAction.RestoreDisks));
        Assert.Equal([world.Pod("vm-r")!.Metadata.Uid], world.Agents.Running);
        Assert.NotNull(world.Claim("a-r"));
    }

    [Fact]
    public async Task A_volume_that_cannot_be_read_is_reported_until_it_can()
    {
        await using World world = await Running();
        world.Agents.Starved = ("SnapshotUnreadable", "memory: Input/output error; the guest waits");
        await world.Until(
            () =>
                world.RestoreCondition("r", ConditionTypes.Resident)
                == "False SnapshotUnreadable: memory: Input/output error; the guest waits",
            "it is told"
        );
        Assert.Contains("Warning SnapshotUnreadable", world.Events("r"));
        Assert.Equal(RestorePhase.Running, world.Restore("r").Status!.Phase);

        world.Agents.Starved = null;
        await world.Until(
            () => world.RestoreCondition("r", ConditionTypes.Resident).StartsWith("False RamArrives", StringComparison.Ordinal),
            "it goes on"
        );
        world.Agents.Slow = false;
        await world.UntilRestore("r", RestorePhase.Ready);
    }

    [Fact]
    public async Task A_guest_that_ends_early_fails_the_restore_and_keeps_its_claims()
    {
        await using World world = await Running();
        await world.Api.Delete(Operator.Kube.CoreResources.Pods, World.Namespace, "vm-r", null, null, default);
        await world.UntilRestore("r", RestorePhase.Failed);
        await world.Steps(3);
        Assert.StartsWith("False GuestEnded: pod vm-r ended", world.RestoreCondition("r"), StringComparison.Ordinal);
        Assert.NotNull(world.Claim("a-r"));
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);
    }

    private static SnapshotTask Order(World world) => world.All(Resources.Tasks).Single(t => t.Spec.Action == TaskAction.Restore);

    private static async Task<World> Running(string? deadline = null)
    {
        World world = await WithSnapshot();
        world.Agents.Instant = true;
        VMBackgroundRestore r = IntoTemplate("r");
        r.Spec.Deadline = deadline;
        await world.Add(r);
        await world.Until(() => world.TasksEver(TaskAction.Restore) == 1, "the task is there");
        world.Agents.Slow = true;
        await world.UntilRestore("r", RestorePhase.Running);
        return world;
    }
}
