using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.Tests.InMemory;

namespace Bgsnap.Operator.Tests.Snapshots;

/// <summary>The slots for snapshots on each node.</summary>
public sealed class QueueTests
{
    private static readonly DateTime Noon = new(2026, 1, 2, 12, 0, 0, DateTimeKind.Utc);
    private readonly List<string> _called = [];

    [Fact]
    public async Task Ten_at_once_on_one_node_are_captured_one_after_the_other_oldest_first()
    {
        await using World world = await TestObjects.WithVm();
        string[] names = ["j", "i", "h", "g", "f", "e", "d", "c", "b", "a"]; // the order of the names is the reverse of their ages
        foreach (string name in names)
        {
            await world.Add(TestObjects.Snapshot(name));
            if (name == "j")
                await world.Reconcile(); // the first one starts while there are no others
            world.Clock.Advance(TimeSpan.FromSeconds(1));
        }
        await world.Reconcile();
        Assert.Equal(9, world.Operator.Queue.WaitingByNode()["node-1"]);
        await world.Reconcile();
        Assert.StartsWith("False Queued: number ", world.Condition("a", ConditionTypes.Ready), StringComparison.Ordinal);
        await world.Restart(); // and a new leader keeps the order
        await world.Reconcile();
        Assert.Equal(
            "False Queued: number 1 in the queue of node node-1, which captures 1 at a time",
            world.Condition("i", ConditionTypes.Ready)
        );
        Assert.Equal(SnapshotPhase.Queued, world.Snapshot("a").Status!.Phase);
        await world.Until(() => names.All(n => world.Snapshot(n).Status?.Phase == SnapshotPhase.Ready), "all are Ready");
        Assert.Equal(1, world.Agents.MostAtOnce);
        Assert.Equal(names, world.Agents.Begun.Select(d => d.Split('-')[0]));
        Assert.Contains("Normal Queued", world.Events("a"));
        Assert.Empty(world.Operator.Queue.WaitingByNode());
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public async Task As_many_as_allowed_run_at_the_same_time(int most)
    {
        OperatorOptions options = new() { AgentImage = "x", MaxConcurrentCaptures = most };
        await using World world = await TestObjects.WithVm(options);
        for (int i = 0; i < 10; i++)
            await world.Add(TestObjects.Snapshot("s" + i));
        await world.Until(() => world.All(Resources.Snapshots).All(s => s.Status?.Phase == SnapshotPhase.Ready), "all are Ready");
        Assert.Equal(most, world.Agents.MostAtOnce);
    }

    [Fact]
    public async Task Nodes_do_not_wait_for_each_other()
    {
        await using World world = await TestObjects.WithVm();
        await world.AddPod(TestObjects.VmPod("web", "node-2"));
        world.Agents.Slow = true;
        await world.Add(TestObjects.Snapshot("a"));
        await world.Add(TestObjects.Snapshot("b", "web"));
        await world.Until(() => world.All(Resources.Tasks).Count(t => t.Status?.Percent == 50) == 2, "both are under way");
    }

    [Theory]
    [InlineData("fails")]
    [InlineData("is deleted")]
    [InlineData("loses its VM")]
    public async Task The_next_snapshot_starts_however_the_first_ends(string what)
    {
        await using World world = await TestObjects.WithVm();
        await world.AddPod(TestObjects.VmPod("web"));
        if (what == "fails")
            world.Agents.CaptureFails = ("DiskFull", "no space left on claim");
        if (what != "fails")
            world.Node.Stuck = ("ContainerCreating", "");
        await world.Add(TestObjects.Snapshot("a"));
        await world.Reconcile();
        await world.Add(TestObjects.Snapshot("b", "web"));
        await world.Steps(3);
        if (what == "fails")
            await world.UntilPhase("a", SnapshotPhase.Failed);
        else
            Assert.Equal(SnapshotPhase.Queued, world.Snapshot("b").Status!.Phase);
        (world.Node.Stuck, world.Agents.CaptureFails) = (null, null);
        if (what == "is deleted")
            await world.Delete("a");
        if (what == "loses its VM")
            await world.Api.Delete(Resources.Pods, World.Namespace, TestObjects.Vm, null, 0, default);
        await world.UntilPhase("b", SnapshotPhase.Ready);
    }

    // A VM whose container restarts may take long, or forever.
    [Fact]
    public async Task A_snapshot_that_waits_for_a_missing_object_frees_its_slot()
    {
        await using World world = await TestObjects.WithVm();
        await world.AddPod(TestObjects.VmPod("web"));
        world.Node.Stuck = ("ContainerCreating", "");
        await world.Add(TestObjects.Snapshot("a"));
        await world.Reconcile();
        await world.Add(TestObjects.Snapshot("b", "web"));
        await world.Steps(2);
        await world.Api.MergePatch(
            Resources.Pods,
            World.Namespace,
            TestObjects.Vm,
            "status",
            new() { ["status"] = new System.Text.Json.Nodes.JsonObject { ["containerStatuses"] = null } },
            default
        );
        world.Node.Stuck = null;
        await world.UntilPhase("b", SnapshotPhase.Ready, 60);
        Assert.StartsWith("False SourceNotRunning", world.Condition("a", ConditionTypes.Ready), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_new_leader_counts_running_captures_before_it_starts_others()
    {
        await using World world = await TestObjects.WithVm();
        world.Agents.Slow = true;
        await world.Add(TestObjects.Snapshot("z"));
        await world.Until(() => world.Agents.Begun.Count == 1, "the first is under way");
        await world.Restart();
        await world.Add(TestObjects.Snapshot("a"));
        await world.Steps(5);
        Assert.Equal(SnapshotPhase.Queued, world.Snapshot("a").Status!.Phase);
        Assert.Single(world.Agents.Begun);
        world.Agents.Slow = false;
        await world.UntilPhase("a", SnapshotPhase.Ready);
        Assert.Equal(1, world.Agents.MostAtOnce);
    }

    [Fact]
    public void The_position_in_the_queue_is_by_age()
    {
        NodeQueue queue = Queue(1);
        Assert.Equal(0, Enter(queue, "first", 5));
        Assert.Equal(1, Enter(queue, "young", 9));
        Assert.Equal(1, Enter(queue, "old", 1));
        Assert.Equal(2, Enter(queue, "young", 9));
        Assert.Equal(0, Enter(queue, "first", 5));
        Assert.Equal(2, queue.WaitingByNode()["n"]);
    }

    [Fact]
    public void The_oldest_gets_a_free_slot_and_no_other_can_take_it()
    {
        NodeQueue queue = Queue(1);
        Enter(queue, "first", 5);
        Enter(queue, "old", 1);
        Enter(queue, "young", 9);
        queue.Leave(Key("first"));
        Assert.Equal(["old"], _called);
        Assert.Equal(2, Enter(queue, "young", 9));
        Assert.Equal(0, Enter(queue, "old", 1));
    }

    [Fact]
    public void At_the_same_age_the_name_decides()
    {
        NodeQueue queue = Queue(1);
        Enter(queue, "x", 0);
        Enter(queue, "b", 1);
        Enter(queue, "a", 1);
        Assert.Equal((1, 2), (Enter(queue, "a", 1), Enter(queue, "b", 1)));
    }

    [Fact]
    public void A_snapshot_that_leaves_the_queue_no_longer_counts()
    {
        NodeQueue queue = Queue(1);
        Enter(queue, "first", 0);
        Enter(queue, "second", 1);
        queue.Leave(Key("second"));
        queue.Leave(Key("nobody"));
        queue.Leave(Key("first"));
        Assert.Empty(_called);
        Assert.Empty(queue.WaitingByNode());
    }

    [Fact]
    public void A_snapshot_that_moves_to_another_node_frees_its_slot_on_the_first()
    {
        NodeQueue queue = Queue(1);
        Enter(queue, "mover", 0);
        Enter(queue, "waiter", 1);
        Assert.Equal(0, queue.Enter("m", Key("mover"), Noon));
        Assert.Equal(["waiter"], _called);
        Assert.Equal(0, Enter(queue, "waiter", 1));
        Assert.Equal(1, Enter(queue, "mover", 0));
    }

    [Fact]
    public void A_running_capture_takes_a_slot_even_beyond_the_limit()
    {
        NodeQueue queue = Queue(1);
        queue.Resume("n", Key("a"));
        queue.Resume("n", Key("b"));
        Assert.Equal(1, Enter(queue, "c", 0));
        queue.Leave(Key("a"));
        Assert.Equal(1, Enter(queue, "c", 0));
        Assert.Empty(_called);
        queue.Leave(Key("b"));
        Assert.Equal(["c"], _called);
        Assert.Equal(0, Enter(queue, "c", 0));
    }

    [Fact]
    public void A_queued_snapshot_found_running_no_longer_waits()
    {
        NodeQueue queue = Queue(1);
        Enter(queue, "a", 0);
        Enter(queue, "b", 1);
        queue.Resume("n", Key("b"));
        Assert.Equal(0, queue.WaitingByNode()["n"]);
    }

    private NodeQueue Queue(int perNode) => new(perNode, k => _called.Add(k.Name));

    private static ObjectKey Key(string name) => new("ns", name);

    private static int Enter(NodeQueue queue, string name, int minutes) => queue.Enter("n", Key(name), Noon.AddMinutes(minutes));
}
