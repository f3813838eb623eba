using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.Tests.InMemory;
using Xunit.Abstractions;
using static Bgsnap.Operator.Tests.Restores.RestoreObjects;

namespace Bgsnap.Operator.Tests.Restores;

/// <summary>
/// One request in the whole life of a restore fails, each request in turn. The outcome must be the same as without a failure. Each kind of
/// life has its own class: xunit runs classes beside each other, but the tests of one class one after the other.
/// </summary>
public abstract class Crashes(ITestOutputHelper output)
{
    public static TheoryData<string> Faults => Snapshots.CrashTests.Faults;

    private protected async Task EachRequest(string name, Func<Func<int, Request, Fault>, string, int, Task<int>> life, int least)
    {
        Fault fault = Enum.Parse<Fault>(name);
        int requests = await life((_, _) => Fault.None, "no fault", 300);
        for (int i = 1; i <= requests; i++)
            await life((n, _) => n == i ? fault : Fault.None, $"request {i}", 300);
        output.WriteLine($"{requests} requests, each with {fault}");
        Assert.InRange(requests, least, 150);
    }

    private protected static async Task<int> ToReady(Func<int, Request, Fault> fault, string what, int most)
    {
        await using World world = await WithSnapshot();
        world.Fault = fault;
        await world.Add(IntoTemplate("r"));
        await world.Until(
            () =>
                RestorePhase.IsTerminal(world.Restore("r").Status?.Phase)
                && world.Restore("r").Metadata.Finalizers is null or { Count: 0 }
                && world.All(Resources.Tasks).Count == 0,
            $"with {what}: Ready",
            most
        );
        int requests = world.Requests.Count;
        world.Fault = (_, _) => Fault.None;
        await world.Steps(5);
        Assert.True(world.Restore("r").Status!.Phase == RestorePhase.Ready, $"with {what}: {world.RestoreCondition("r")}");
        Assert.True(world.TasksEver(TaskAction.RestoreDisks) == 1 && world.TasksEver(TaskAction.Restore) == 1, $"with {what}: tasks");
        Assert.True(PodsEver(world, "vm-r") == 1, $"with {what}: {PodsEver(world, "vm-r")} VMs");
        Assert.Equal([world.Pod("vm-r")!.Metadata.Uid], world.Agents.Running);
        Assert.Equal(2, world.Agents.Written.Count);
        Assert.NotNull(world.Claim("a-r"));
        Assert.Empty(world.Carriers);
        Assert.Empty(world.Operator.RestoreQueue.WaitingByNode());
        // Nothing holds the snapshot any more.
        await world.Delete("s");
        await world.Until(() => world.Find("s") is null, $"with {what}: the snapshot can go");
        return requests;
    }

    private protected static async Task<int> ToFailed(Func<int, Request, Fault> fault, string what, int most)
    {
        await using World world = await WithSnapshot();
        world.Agents.RestoreFails = ("MachineMismatch", "the snapshot is of pc-i440fx-7.2 and the pod runs pc-q35-7.2");
        world.Fault = fault;
        await world.Add(IntoTemplate("r"));
        await world.Until(
            () =>
                RestorePhase.IsTerminal(world.Restore("r").Status?.Phase) && world.Restore("r").Metadata.Finalizers is null or { Count: 0 },
            $"with {what}: Failed",
            most
        );
        int requests = world.Requests.Count;
        world.Fault = (_, _) => Fault.None;
        await world.Operator.Orphans.Sweep(default);
        await world.Steps(5);
        Assert.StartsWith("False MachineMismatch", world.RestoreCondition("r"), StringComparison.Ordinal);
        Assert.True(world.TasksEver(TaskAction.Restore) == 1, $"with {what}: tasks");
        AssertNothing(world, what);
        return requests;
    }

    private protected static async Task<int> Deleted(Func<int, Request, Fault> fault, string what, int most)
    {
        await using World world = await WithSnapshot();
        await world.Add(IntoTemplate("r"));
        await world.Until(() => world.Restore("r").Status?.Phase == RestorePhase.Starting, "the VM is being started");
        world.Agents.Slow = true;
        await world.Until(() => world.Restore("r").Status?.Progress?.Text == "memory 50%", "half of the memory is done");
        world.Requests.Clear();
        world.Fault = fault;
        await world.DeleteRestore("r");
        await world.Until(() => world.FindRestore("r") is null, $"with {what}: gone", most);
        int requests = world.Requests.Count;
        await world.Steps(5);
        Assert.Empty(world.Agents.Running);
        AssertNothing(world, what);
        return requests;
    }

    private protected static async Task<int> DeletedWhileItRuns(Func<int, Request, Fault> fault, string what, int most)
    {
        await using World world = await WithSnapshot();
        await world.Add(IntoTemplate("r"));
        await world.Until(() => world.TasksEver(TaskAction.Restore) == 1, "memory is being restored");
        await world.Operator.DisposeAsync();
        for (int i = 0; i < 5; i++)
            await world.Agents.Tick();
        Assert.Single(world.Agents.Running);
        await world.DeleteRestore("r");
        world.Requests.Clear();
        world.Fault = fault;
        await world.Restart();
        await world.Until(() => world.FindRestore("r") is null, $"with {what}: gone", most);
        int requests = world.Requests.Count;
        await world.Steps(5);
        Assert.True(world.Pod("vm-r") is { Metadata.DeletionTimestamp: null }, $"with {what}: the VM is gone");
        Assert.NotNull(world.Claim("a-r"));
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);
        return requests;
    }

    private static void AssertNothing(World world, string what)
    {
        Assert.True(world.Pod("vm-r") is null, $"with {what}: the VM is there");
        Assert.Null(world.Claim("a-r"));
        Assert.Null(world.Claim("b-r"));
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);
    }
}
