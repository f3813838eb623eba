using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Tests.InMemory;
using Xunit.Abstractions;

namespace Bgsnap.Operator.Tests.VolumeSnapshots;

/// <summary>
/// One request in the whole life of a snapshot fails, each in turn. No guest is held for longer than allowed, and nothing is left over.
/// </summary>
public sealed class VolumeSnapshotCrashTests(ITestOutputHelper output)
{
    public static TheoryData<string> Faults =>
        [
            nameof(Fault.CrashBefore),
            nameof(Fault.CrashAfter),
            nameof(Fault.Unreachable),
            nameof(Fault.AnswerLost),
            nameof(Fault.Conflict),
            nameof(Fault.ServerError),
        ];

    [Theory]
    [MemberData(nameof(Faults))]
    public async Task It_becomes_Ready_whichever_request_fails(string name)
    {
        Fault fault = Enum.Parse<Fault>(name);
        int requests = await ToReady((_, _) => Fault.None, "no fault");
        for (int i = 1; i <= requests; i++)
            await ToReady((n, _) => n == i ? fault : Fault.None, $"request {i}");
        output.WriteLine($"{requests} requests, each with {fault}");
        Assert.InRange(requests, 25, 120);
    }

    [Theory]
    [MemberData(nameof(Faults))]
    public async Task A_failed_VolumeSnapshot_resumes_the_guest_whichever_request_fails(string name)
    {
        Fault fault = Enum.Parse<Fault>(name);
        int requests = await ToFailed((_, _) => Fault.None, "no fault");
        for (int i = 1; i <= requests; i++)
            await ToFailed((n, _) => n == i ? fault : Fault.None, $"request {i}");
        output.WriteLine($"{requests} requests, each with {fault}");
        Assert.InRange(requests, 25, 120);
    }

    private static async Task<int> ToReady(Func<int, Request, Fault> fault, string what)
    {
        await using World world = await VolumeSnapshotObjects.World();
        world.Fault = fault;
        await world.Add(VolumeSnapshotObjects.Snapshot());
        await world.Until(
            () =>
                SnapshotPhase.IsTerminal(world.Find("a")!.Status?.Phase)
                && world.All(Resources.Tasks).Count == 0
                && world.Carriers.Count == 0,
            $"with {what}: Ready"
        );
        int requests = world.Requests.Count;
        Assert.True(world.Snapshot("a").Status!.Phase == SnapshotPhase.Ready, $"with {what}: {world.Condition("a", ConditionTypes.Ready)}");
        Assert.Equal(["a-00000006-db-data", "a-00000006-db-root"], world.Storage.Ever);
        Assert.Equal(
            ["a-00000006-db-data", "a-00000006-db-root"],
            world.Agents.Released.Values.Single().Values.Order(StringComparer.Ordinal)
        );
        Assert.Single(world.Agents.Begun);
        Assert.InRange(world.Agents.Held.Values.Single(), 0, 5);
        return requests;
    }

    private static async Task<int> ToFailed(Func<int, Request, Fault> fault, string what)
    {
        await using World world = await VolumeSnapshotObjects.World();
        world.Storage.MoodOf["db-root"] = StorageMood.Fails;
        world.Fault = fault;
        await world.Add(VolumeSnapshotObjects.Snapshot());
        await world.Until(
            () =>
                SnapshotPhase.IsTerminal(world.Find("a")!.Status?.Phase)
                && world.All(Resources.Tasks).Count == 0
                && world.Carriers.Count == 0
                && world.Storage.All.Count == 0,
            $"with {what}: Failed"
        );
        int requests = world.Requests.Count;
        Assert.True(
            world
                .Condition("a", ConditionTypes.Ready)
                .StartsWith(
                    "False VolumeSnapshotFailed: the storage could not take VolumeSnapshot a-00000006-db-root",
                    StringComparison.Ordinal
                ),
            $"with {what}: {world.Condition("a", ConditionTypes.Ready)}"
        );
        Assert.Empty(world.Agents.Released);
        Assert.InRange(world.Agents.Held.Values.Single(), 0, 5);
        return requests;
    }
}
