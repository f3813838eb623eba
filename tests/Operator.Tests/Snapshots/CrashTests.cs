using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.Tests.InMemory;
using Xunit.Abstractions;

namespace Bgsnap.Operator.Tests.Snapshots;

/// <summary>
/// One request in the whole life of a snapshot fails, each request in turn. The outcome must be the same as without a failure.
/// </summary>
public sealed class CrashTests(ITestOutputHelper output)
{
    public static TheoryData<string> Faults =>
        [
            nameof(Fault.CrashBefore),
            nameof(Fault.CrashAfter),
            nameof(Fault.Unreachable),
            nameof(Fault.AnswerLost),
            nameof(Fault.Conflict),
            nameof(Fault.ServerError),
            nameof(Fault.Refused),
        ];

    [Theory]
    [MemberData(nameof(Faults))]
    public async Task A_snapshot_becomes_Ready_by_one_capture_whichever_request_fails(string name)
    {
        Fault fault = Enum.Parse<Fault>(name);
        int requests = await ToReady((_, _) => Fault.None);
        for (int i = 1; i <= requests; i++)
            await ToReady((n, _) => n == i ? fault : Fault.None, $"request {i}");
        output.WriteLine($"{requests} requests, each with {fault}");
        Assert.InRange(requests, 15, 100);
    }

    [Theory]
    [MemberData(nameof(Faults))]
    public async Task A_deleted_snapshot_is_removed_with_its_files_whichever_request_fails(string name)
    {
        Fault fault = Enum.Parse<Fault>(name);
        int requests = await ToGone((_, _) => Fault.None);
        for (int i = 1; i <= requests; i++)
            await ToGone((n, _) => n == i ? fault : Fault.None, $"request {i}");
        output.WriteLine($"{requests} requests, each with {fault}");
        Assert.InRange(requests, 8, 100);
    }

    [Theory]
    [MemberData(nameof(Faults))]
    public async Task A_running_capture_is_cancelled_and_leaves_nothing_whichever_request_fails(string name)
    {
        Fault fault = Enum.Parse<Fault>(name);
        int requests = await Cancelled((_, _) => Fault.None);
        for (int i = 1; i <= requests; i++)
            await Cancelled((n, _) => n == i ? fault : Fault.None, $"request {i}");
        Assert.InRange(requests, 4, 100);
    }

    [Theory]
    [InlineData(7)]
    [InlineData(11)]
    [InlineData(13)]
    public async Task It_becomes_Ready_although_one_request_in_two_fails_in_any_way(int seed)
    {
        Random random = new(seed);
        Fault[] kinds = [.. Enum.GetValues<Fault>()];
        await ToReady((_, _) => random.Next(2) == 0 ? Fault.None : kinds[random.Next(kinds.Length)], $"seed {seed}", most: 2000);
    }

    private static async Task<int> ToReady(Func<int, Request, Fault> fault, string what = "no fault", int most = 300)
    {
        await using World world = await TestObjects.WithVm();
        await world.AddPod(TestObjects.VmPod("web"));
        world.Fault = fault;
        await world.Add(TestObjects.Snapshot("a", change: TestObjects.WithTemplate));
        await world.Until(
            () =>
                world.Find("a")!.Status?.Phase is SnapshotPhase.Ready or SnapshotPhase.Failed
                && world.All(Resources.Tasks).Count == 0
                && world.Carriers.Count == 0,
            $"with {what}: Ready",
            most
        );
        int requests = world.Requests.Count;
        world.Fault = (_, _) => Fault.None;
        await world.Steps(5);
        Assert.True(world.Snapshot("a").Status!.Phase == SnapshotPhase.Ready, $"with {what}: {world.Condition("a", ConditionTypes.Ready)}");
        Assert.True(world.TasksEver(TaskAction.Capture) == 1, $"with {what}: {world.TasksEver(TaskAction.Capture)} tasks");
        Assert.Single(world.Agents.Begun);
        Assert.Equal(["a-00000004"], world.Agents.Directories.Select(d => d));
        Assert.Single(world.All(CoreResources.Claims), c => c.Metadata.Name == "a");
        Assert.Equal("a-00000004", world.Snapshot("a").Status!.Directory);
        Assert.Equal(4, world.Snapshot("a").Status!.Conditions!.Count);
        // The slot on the node is free.
        await world.Add(TestObjects.Snapshot("b", "web"));
        await world.UntilPhase("b", SnapshotPhase.Ready, 30);
        return requests;
    }

    private static async Task<int> ToGone(Func<int, Request, Fault> fault, string what = "no fault")
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(TestObjects.Snapshot("a"));
        await world.UntilPhase("a", SnapshotPhase.Ready);
        await world.Steps(3);
        world.Requests.Clear();
        world.Fault = fault;
        await world.Delete("a");
        await world.Until(() => world.Find("a") is null, $"with {what}: gone");
        int requests = world.Requests.Count;
        await world.Steps(5);
        Assert.Empty(world.Agents.Directories);
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);
        Assert.True(world.TasksEver(TaskAction.Delete) == 1, $"with {what}: {world.TasksEver(TaskAction.Delete)} tasks");
        return requests;
    }

    private static async Task<int> Cancelled(Func<int, Request, Fault> fault, string what = "no fault")
    {
        await using World world = await TestObjects.WithVm();
        world.Agents.Slow = true;
        await world.Add(TestObjects.Snapshot("a"));
        await world.Until(() => world.Snapshot("a").Status?.Progress?.Percent == 50, "half is done");
        await world.Steps(3);
        world.Requests.Clear();
        world.Fault = fault;
        await world.Delete("a");
        await world.Until(() => world.Find("a") is null, $"with {what}: gone");
        int requests = world.Requests.Count;
        await world.Steps(5);
        Assert.Empty(world.Agents.Directories);
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);
        return requests;
    }
}
