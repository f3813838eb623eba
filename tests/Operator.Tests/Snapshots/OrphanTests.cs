using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.Snapshots;
using Bgsnap.Operator.Tests.InMemory;

namespace Bgsnap.Operator.Tests.Snapshots;

public sealed class OrphanTests
{
    [Fact]
    public async Task Helpers_that_a_snapshot_needs_stay()
    {
        await using World world = await TestObjects.WithVm();
        world.Agents.Slow = true;
        await world.Add(TestObjects.Snapshot("a"));
        await world.Until(() => world.Snapshot("a").Status?.Progress?.Percent == 50, "half is done");
        Assert.Equal(0, await world.Operator.Orphans.Sweep(default));
        await world.Delete("a");
        await world.Operator.Settle();
        Assert.Equal(0, await world.Operator.Orphans.Sweep(default)); // being removed in the normal way
    }

    [Theory]
    [InlineData(SnapshotPhase.Ready)]
    [InlineData(SnapshotPhase.Failed)]
    public async Task Helpers_of_an_ended_snapshot_are_removed(string phase)
    {
        await using World world = await TestObjects.WithVm();
        if (phase == SnapshotPhase.Failed)
            world.Agents.CaptureFails = ("DiskFull", "");
        await world.Add(TestObjects.Snapshot("a"));
        await world.UntilPhase("a", phase);
        await world.Steps(3);
        await Leave(world, world.Snapshot("a"));
        Assert.Equal(2, await world.Operator.Orphans.Sweep(default));
        Assert.Empty(world.All(Resources.Tasks));
    }

    [Fact]
    public async Task Helpers_without_a_snapshot_are_removed()
    {
        await using World world = await TestObjects.WithVm();
        VMBackgroundSnapshot gone = TestObjects.Snapshot("gone");
        gone.Metadata.Uid = "99999999-1111-4222-8333-444455556666";
        await Leave(world, gone);
        Assert.Equal(2, await world.Operator.Orphans.Sweep(default));
    }

    [Fact]
    public async Task Foreign_and_terminating_objects_are_left_alone()
    {
        await using World world = await TestObjects.WithVm();
        VMBackgroundSnapshot gone = TestObjects.Snapshot("gone");
        gone.Metadata.Uid = "99999999-1111-4222-8333-444455556666";
        await Leave(world, gone);
        await world.Api.Delete(Resources.Pods, World.Namespace, "gone-99999999-carrier", null, 30, default);
        await world.AddPod(
            TestObjects.VmPod("other", change: p =>
                p.Metadata.Labels = new Dictionary<string, string> { [Names.ManagedByLabel] = Names.ManagedBy }
            )
        );
        await world.Operator.Settle();
        Assert.Equal(1, await world.Operator.Orphans.Sweep(default)); // the task
    }

    private static async Task Leave(World world, VMBackgroundSnapshot snapshot)
    {
        PodSummary carrier = new()
        {
            Metadata = SnapshotNaming.Made(snapshot, SnapshotNaming.Carrier(snapshot, TaskAction.Capture)),
            Spec = new PodSpecSummary { NodeName = "node-1" },
        };
        await world.Api.Create(Resources.Pods, carrier, default);
        await world.Api.Create(
            Resources.Tasks,
            SnapshotTasks.Capture(snapshot, new SourceVm("db", "uid", "node-1", "qemu", "/run/qmp.sock", null), carrier),
            default
        );
        await world.Operator.Settle();
    }
}
