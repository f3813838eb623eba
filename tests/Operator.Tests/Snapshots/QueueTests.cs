using Bgsnap.Crds.Client;
using Bgsnap.Crds.Controller;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Snapshots;
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
        await using World world = await Things.WithVm();
        string[] names = ["j", "i", "h", "g", "f", "e", "d", "c", "b", "a"]; // the order of the names is the reverse of their ages
        foreach (string name in names)
        {
            await world.Add(Things.Snapshot(name));
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
    public async Task As_many_as_allowed_are_under_way_at_once(int most)
    {
        OperatorOptions options = new() { AgentImage = "x", MaxConcurrentCaptures = most };
        await using World world = await Things.WithVm(options);
        for (int i = 0; i < 10; i++)
            await world.Add(Things.Snapshot("s" + i));
        await world.Until(() => world.All(Resources.Snapshots).All(s => s.Status?.Phase == SnapshotPhase.Ready), "all are Ready");
        Assert.Equal(most, world.Agents.MostAtOnce);
    }

    [Fact]
    public async Task Nodes_do_not_wait_for_each_other()
    {
        await using World world = await Things.WithVm();
        await world.AddPod(Things.VmPod("web", "node-2"));
        world.Agents.Slow = true;
        await world.Add(Things.Snapshot("a"));
        await world.Add(Things.Snapshot("b", "web"));
        await world.Until(() => world.All(Resources.Tasks).Count(t => t.Status?.Percent == 50) == 2, "both are under way");
    }

    [Theory]
    [InlineData("fails")]
    [InlineData("is deleted")]
    [InlineData("loses its VM")]
    public async Task The_next_begins_whatever_becomes_of_the_first(string what)
    {
        await using World world = await Things.WithVm();
        await world.AddPod(Things.VmPod("web"));
        if (what == "fails")
            world.Agents.CaptureFails = ("DiskFull", "no space left on claim");
        if (what != "fails")
            world.Node.Stuck = ("ContainerCreating", "");
        await world.Add(Things.Snapshot("a"));
        await world.Reconcile();
        await world.Add(Things.Snapshot("b", "web"));
        await world.Steps(3);
        if (what == "fails")
            await world.UntilPhase("a", SnapshotPhase.Failed);
        else
            Assert.Equal(SnapshotPhase.Queued, world.Snapshot("b").Status!.Phase);
        (world.Node.Stuck, world.Agents.CaptureFails) = (null, null);
        if (what == "is deleted")
            await world.Delete("a");
        if (what == "loses its VM")
            await world.Api.Delete(Resources.Pods, World.Namespace, Things.Vm, null, 0, default);
        await world.UntilPhase("b", SnapshotPhase.Ready);
    }

    // A VM whose container restarts may take long, or forever.
    [Fact]
    public async Task Who_waits_for_something_missing_gives_its_place_away()
    {
        await using World world = await Things.WithVm();
        await world.AddPod(Things.VmPod("web"));
        world.Node.Stuck = ("ContainerCreating", "");
        await world.Add(Things.Snapshot("a"));
        await world.Reconcile();
        await world.Add(Things.Snapshot("b", "web"));
        await world.Steps(2);
        await world.Api.MergePatch(
            Resources.Pods,
            World.Namespace,
            Things.Vm,
            "status",
            new() { ["status"] = new System.Text.Json.Nodes.JsonObject { ["containerStatuses"] = null } },
            default
        );
        world.Node.Stuck = null;
        await world.UntilPhase("b", SnapshotPhase.Ready, 60);
        Assert.StartsWith("False SourceNotRunning", world.Condition("a", ConditionTypes.Ready), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_new_leader_lets_nobody_in_before_those_at_work()
    {
        await using World world = await Things.WithVm();
        world.Agents.Slow = true;
        await world.Add(Things.Snapshot("z"));
        await world.Until(() => world.Agents.Begun.Count == 1, "the first is under way");
        await world.Restart();
        await world.Add(Things.Snapshot("a"));
        await world.Steps(5);
        Assert.Equal(SnapshotPhase.Queued, world.Snapshot("a").Status!.Phase);
        Assert.Single(world.Agents.Begun);
        world.Agents.Slow = false;
        await world.UntilPhase("a", SnapshotPhase.Ready);
        Assert.Equal(1, world.Agents.MostAtOnce);
    }

    [Fact]
    public void The_number_in_the_queue_is_by_age()
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
    public void The_oldest_is_called_when_a_place_is_free_and_no_other_can_take_it()
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
    public void Of_the_same_age_the_name_decides()
    {
        NodeQueue queue = Queue(1);
        Enter(queue, "x", 0);
        Enter(queue, "b", 1);
        Enter(queue, "a", 1);
        Assert.Equal((1, 2), (Enter(queue, "a", 1), Enter(queue, "b", 1)));
    }

    [Fact]
    public void Who_leaves_the_queue_is_counted_no_more()
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
    public void Who_moves_to_another_node_frees_its_place_on_the_first()
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
    public void Who_is_at_work_takes_a_place_even_if_there_is_none()
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
    public void Who_waited_and_is_found_at_work_waits_no_more()
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
