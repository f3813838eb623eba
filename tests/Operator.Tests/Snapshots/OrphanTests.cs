using Bgsnap.Crds.Client;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Snapshots;
using Bgsnap.Operator.Tests.InMemory;

namespace Bgsnap.Operator.Tests.Snapshots;

public sealed class OrphanTests
{
    [Fact]
    public async Task What_a_snapshot_needs_stays()
    {
        await using World world = await Things.WithVm();
        world.Agents.Slow = true;
        await world.Add(Things.Snapshot("a"));
        await world.Until(() => world.Snapshot("a").Status?.Progress?.Percent == 50, "half is done");
        Assert.Equal(0, await world.Operator.Orphans.Sweep(default));
        await world.Delete("a");
        await world.Operator.Settle();
        Assert.Equal(0, await world.Operator.Orphans.Sweep(default)); // being removed in the normal way
    }

    [Theory]
    [InlineData(SnapshotPhase.Ready)]
    [InlineData(SnapshotPhase.Failed)]
    public async Task What_is_left_of_one_that_has_ended_goes(string phase)
    {
        await using World world = await Things.WithVm();
        if (phase == SnapshotPhase.Failed)
            world.Agents.CaptureFails = ("DiskFull", "");
        await world.Add(Things.Snapshot("a"));
        await world.UntilPhase("a", phase);
        await world.Steps(3);
        await Leave(world, world.Snapshot("a"));
        Assert.Equal(2, await world.Operator.Orphans.Sweep(default));
        Assert.Empty(world.All(Resources.Tasks));
    }

    [Fact]
    public async Task What_belongs_to_no_snapshot_goes()
    {
        await using World world = await Things.WithVm();
        VMBackgroundSnapshot gone = Things.Snapshot("gone");
        gone.Metadata.Uid = "99999999-1111-4222-8333-444455556666";
        await Leave(world, gone);
        Assert.Equal(2, await world.Operator.Orphans.Sweep(default));
    }

    [Fact]
    public async Task What_is_not_ours_or_on_its_way_out_is_left_alone()
    {
        await using World world = await Things.WithVm();
        VMBackgroundSnapshot gone = Things.Snapshot("gone");
        gone.Metadata.Uid = "99999999-1111-4222-8333-444455556666";
        await Leave(world, gone);
        await world.Api.Delete(Resources.Pods, World.Namespace, "gone-99999999-carrier", null, 30, default);
        await world.AddPod(
            Things.VmPod("other", change: p =>
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
            Metadata = Naming.Made(snapshot, Naming.Carrier(snapshot, TaskAction.Capture)),
            Spec = new PodSpecSummary { NodeName = "node-1" },
        };
        await world.Api.Create(Resources.Pods, carrier, default);
        await world.Api.Create(
            Resources.Tasks,
            TaskOf.Capture(snapshot, new SourceVm("db", "uid", "node-1", "qemu", "/run/qmp.sock", null), carrier),
            default
        );
        await world.Operator.Settle();
    }
}
