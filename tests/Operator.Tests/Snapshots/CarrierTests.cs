using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Tests.InMemory;

namespace Bgsnap.Operator.Tests.Snapshots;

public sealed class CarrierTests
{
    [Fact]
    public async Task A_carrier_that_cannot_be_scheduled_says_why_and_blocks_no_other()
    {
        await using World world = await TestObjects.WithVm();
        world.Node.Unschedulable = "0/1 nodes are available: 1 node(s) had volume node affinity conflict.";
        await world.Add(TestObjects.Snapshot("a"));
        await world.Steps(3);
        Assert.Equal(SnapshotPhase.Preparing, world.Snapshot("a").Status!.Phase);
        Assert.Equal(
            "False CarrierUnschedulable: pod a-00000003-carrier, which mounts claim snapshots on node node-1, cannot be "
                + "scheduled: 0/1 nodes are available: 1 node(s) had volume node affinity conflict.",
            world.Condition("a", ConditionTypes.Ready)
        );
        Assert.Equal(["Normal CarrierStarting", "Normal CarrierUnschedulable"], world.Events("a"));
        Assert.Equal(0, world.Operator.Queue.Enter("node-1", new("prod", "other"), DateTime.UtcNow));
        world.Operator.Queue.Leave(new("prod", "other"));
        world.Node.Unschedulable = null;
        await world.UntilPhase("a", SnapshotPhase.Ready);
    }

    // Otherwise they would take the slot from each other for as long as they wait, with an event each time.
    [Fact]
    public async Task Several_carriers_that_cannot_be_scheduled_are_each_reported_once()
    {
        await using World world = await TestObjects.WithVm();
        world.Node.Unschedulable = "0/1 nodes are available: 1 node(s) had volume node affinity conflict.";
        world.Node.UnschedulableAre = pod => !pod.StartsWith("works", StringComparison.Ordinal);
        await world.Add(TestObjects.Snapshot("a"));
        await world.Add(TestObjects.Snapshot("b"));
        await world.Steps(5);
        world.Agents.Slow = true;
        await world.Add(TestObjects.Snapshot("works"));
        await world.Until(() => world.Agents.Begun.Count == 1, "another is under way");
        List<string> events = [.. world.Events("a"), .. world.Events("b")];
        await world.Steps(120);
        Assert.Equal(events, world.Events("a").Concat(world.Events("b")));
        Assert.All((string[])["a", "b"], s =>
            Assert.StartsWith("False CarrierUnschedulable", world.Condition(s, ConditionTypes.Ready), StringComparison.Ordinal)
        );

        // Once they can be scheduled, they queue like all others, and no two work at once.
        world.Node.Unschedulable = null;
        await world.Steps(20);
        Assert.All((string[])["a", "b"], s => Assert.Equal(SnapshotPhase.Queued, world.Snapshot(s).Status!.Phase));
        world.Agents.Slow = false;
        await world.UntilPhase("a", SnapshotPhase.Ready);
        await world.UntilPhase("b", SnapshotPhase.Ready);
        Assert.Equal(1, world.Agents.MostAtOnce);
    }

    [Fact]
    public async Task A_carrier_that_does_not_start_says_why()
    {
        await using World world = await TestObjects.WithVm();
        world.Node.Stuck = ("ErrImagePull", "bgsnap/agent:test: not found");
        await world.Add(TestObjects.Snapshot("a"));
        await world.Steps(4);
        Assert.Equal(
            "False CarrierNotStarting: pod a-00000003-carrier, which mounts claim snapshots on node node-1, does not start: "
                + "ErrImagePull: bgsnap/agent:test: not found",
            world.Condition("a", ConditionTypes.Ready)
        );
        world.Node.Stuck = null;
        await world.UntilPhase("a", SnapshotPhase.Ready);
    }

    [Fact]
    public async Task An_evicted_carrier_is_recreated_after_a_pause()
    {
        await using World world = await TestObjects.WithVm();
        world.Node.Evict = 2;
        await world.Add(TestObjects.Snapshot("a"));
        await world.Steps(4);
        Assert.Equal(
            "False CarrierEnded: pod a-00000003-carrier, which mounts claim snapshots on node node-1, has ended and is "
                + "recreated: The node was low on resource: memory.",
            world.Condition("a", ConditionTypes.Ready)
        );
        DateTimeOffset begin = world.Clock.GetUtcNow();
        await world.UntilPhase("a", SnapshotPhase.Ready);
        Assert.InRange(world.Clock.GetUtcNow() - begin, TimeSpan.FromSeconds(25), TimeSpan.FromSeconds(60));
        Assert.Equal(
            3,
            world.Api.History.Count(c =>
                c.Plural == "pods"
                && c.Type == "ADDED"
                && c.Object["metadata"]!["name"]!.GetValue<string>().EndsWith("carrier", StringComparison.Ordinal)
            )
        );
    }

    [Fact]
    public async Task A_deleted_carrier_is_not_used_and_is_recreated()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(TestObjects.Snapshot("a"));
        await world.Until(() => world.Carriers.Any(c => c.Status?.Phase == "Running"), "the carrier runs");
        await world.Api.Delete(Resources.Pods, World.Namespace, world.Carriers.Single().Metadata.Name, null, 30, default);
        await world.Reconcile();
        Assert.Equal(0, world.TasksEver(TaskAction.Capture));
        Assert.StartsWith("False CarrierStarting", world.Condition("a", ConditionTypes.Ready), StringComparison.Ordinal);
        await world.UntilPhase("a", SnapshotPhase.Ready);
        Assert.Equal(1, world.TasksEver(TaskAction.Capture));
    }

    [Fact]
    public async Task A_rejected_carrier_is_reported_and_retried()
    {
        await using World world = await TestObjects.WithVm();
        bool quota = true;
        world.Fault = (_, r) => quota && r.Verb == "create" && r.Plural == "pods" ? Fault.Refused : Fault.None;
        await world.Add(TestObjects.Snapshot("a"));
        await world.Steps(5);
        Assert.Equal("False RefusedByApiServer: exceeded quota: pods", world.Condition("a", ConditionTypes.Ready));
        Assert.Equal(["Warning RefusedByApiServer"], world.Events("a"));
        Assert.NotEmpty(world.Problems); // the queue waits longer after each failure, and counts them
        Assert.Equal(0, world.Operator.Queue.Enter("node-1", new("prod", "other"), DateTime.UtcNow));
        world.Operator.Queue.Leave(new("prod", "other"));
        quota = false;
        await world.UntilPhase("a", SnapshotPhase.Ready);
    }
}
