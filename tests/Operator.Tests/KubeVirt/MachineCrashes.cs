using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.KubeVirt;
using Bgsnap.Operator.KubeVirt.Restoring;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.Tests.InMemory;
using Xunit.Abstractions;
using static Bgsnap.Operator.Tests.KubeVirt.MachineRestoreObjects;

namespace Bgsnap.Operator.Tests.KubeVirt;

/// <summary>
/// One request of a restore into KubeVirt fails, each request in turn. The outcome must be the same as without a failure. Each kind of
/// restore has its own class below: xunit runs classes beside each other, but the tests of one class one after the other.
/// </summary>
public abstract class MachineCrashes(ITestOutputHelper output)
{
    public static TheoryData<string> Faults => Snapshots.CrashTests.Faults;

    private protected static async Task<int> PutBack(Func<int, Request, Fault> fault, string what, bool comesToRun)
    {
        await using World world = await WithKept();
        _ = new FakeKubeVirt(world);
        RawObject before = await PutBackObjects.Existing(world);
        if (!comesToRun)
            world.Agents.RestoreFails = ("TargetDiffers", "the target is not the machine that was captured");
        world.Requests.Clear();
        world.Fault = fault;
        await world.Add(Restore("r", t => t.WhenExists = ExistingMachine.StopAndPutBack));
        await world.Until(() => Ended(world), $"with {what}: ended");
        int requests = world.Requests.Count;
        world.Fault = (_, _) => Fault.None;
        await world.Operator.Orphans.Sweep(default);
        await world.Steps(5);
        // The operator must not keep an existing VM stopped until the API server accepts what it has rejected once.
        bool refused = world
            .RestoreCondition("r")
            .StartsWith(
                "False RefusedByApiServer: the API server rejected the restored spec of VirtualMachine again",
                StringComparison.Ordinal
            );
        if (!refused)
            Assert.True(
                world.RestoreCondition("r").StartsWith(comesToRun ? "True GuestRuns" : "False TargetDiffers", StringComparison.Ordinal),
                $"with {what}: {world.RestoreCondition("r")}"
            );
        if (!comesToRun || refused)
        {
            PutBackObjects.AssertAsBefore(world, before, $"with {what}");
            Assert.Null(world.Instance().Metadata.Labels);
            return requests;
        }
        RawObject vm = Assert.Single(world.All(KubeVirtKinds.Machines));
        Assert.True(
            vm.Spec!["runStrategy"]!.ToString() == "RerunOnFailure" && vm.Metadata.Annotations is null or { Count: 0 },
            $"with {what}: {vm.Spec["runStrategy"]}"
        );
        Assert.DoesNotContain("bgsnap.io/", vm.Spec["template"]!.ToJsonString(), StringComparison.Ordinal);
        Assert.True(world.TasksEver(TaskAction.RestoreDisks) == 1 && world.TasksEver(TaskAction.Restore) == 1, $"with {what}: tasks");
        return requests;
    }

    private protected async Task EachRequest(string name, Func<Func<int, Request, Fault>, string, Task<int>> life, int least)
    {
        Fault fault = Enum.Parse<Fault>(name);
        int requests = await life((_, _) => Fault.None, "no fault");
        for (int i = 1; i <= requests; i++)
            await life((n, _) => n == i ? fault : Fault.None, $"request {i}");
        output.WriteLine($"{requests} requests, each with {fault}");
        Assert.InRange(requests, least, 200);
    }

    private protected static async Task<int> ToReady(Func<int, Request, Fault> fault, string what)
    {
        await using World world = await WithKept();
        FakeKubeVirt kubeVirt = new(world);
        world.Fault = fault;
        await world.Add(Restore("r"));
        await world.Until(() => Ended(world), $"with {what}: Ready");
        int requests = world.Requests.Count;
        world.Fault = (_, _) => Fault.None;
        await world.Steps(5);
        Assert.True(world.Restore("r").Status!.Phase == RestorePhase.Ready, $"with {what}: {world.RestoreCondition("r")}");
        Assert.True(world.TasksEver(TaskAction.RestoreDisks) == 1 && world.TasksEver(TaskAction.Restore) == 1, $"with {what}: tasks");
        Assert.True(kubeVirt.Started.Count == 1, $"with {what}: {kubeVirt.Started.Count} starts");
        Assert.Equal(2, world.Agents.Written.Count);
        RawObject vm = Assert.Single(world.All(KubeVirtKinds.Machines));
        Assert.Equal("RerunOnFailure", vm.Spec!["runStrategy"]!.ToString());
        Assert.DoesNotContain("bgsnap.io/", vm.Spec["template"]!.ToJsonString(), StringComparison.Ordinal);
        Assert.Empty(world.Carriers);
        Assert.Empty(world.Operator.RestoreQueue.WaitingByNode());
        return requests;
    }

    private protected static async Task<int> ToFailed(Func<int, Request, Fault> fault, string what)
    {
        await using World world = await WithKept();
        _ = new FakeKubeVirt(world);
        world.Agents.RestoreFails = ("TargetDiffers", "the target is not the machine that was captured");
        world.Fault = fault;
        await world.Add(Restore("r"));
        await world.Until(() => Ended(world), $"with {what}: Failed");
        int requests = world.Requests.Count;
        world.Fault = (_, _) => Fault.None;
        await world.Operator.Orphans.Sweep(default);
        await world.Steps(5);
        Assert.True(
            world.RestoreCondition("r").StartsWith("False TargetDiffers", StringComparison.Ordinal),
            $"with {what}: {world.RestoreCondition("r")}"
        );
        AssertNothingLeft(world);
        return requests;
    }

    private protected static async Task<int> Deleted(Func<int, Request, Fault> fault, string what)
    {
        await using World world = await WithKept();
        _ = new FakeKubeVirt(world);
        await world.Add(Restore("r"));
        await world.Until(() => world.All(Resources.Tasks).Any(t => t.Spec.Action == TaskAction.Restore), "the restore is ordered");
        world.Agents.Slow = true;
        world.Requests.Clear();
        world.Fault = fault;
        await world.DeleteRestore("r");
        await world.Until(() => world.FindRestore("r") is null, $"with {what}: gone");
        int requests = world.Requests.Count;
        await world.Steps(5);
        Assert.Empty(world.Agents.Running);
        AssertNothingLeft(world);
        return requests;
    }

    private static bool Ended(World world) =>
        RestorePhase.IsTerminal(world.Restore("r").Status?.Phase)
        && world.Restore("r").Metadata.Finalizers is null or { Count: 0 }
        && world.All(Resources.Tasks).Count == 0;
}
