using System.Text.Json.Nodes;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.KubeVirt;
using Bgsnap.Operator.Tests.InMemory;
using static Bgsnap.Operator.Tests.KubeVirt.MachineRestoreObjects;

namespace Bgsnap.Operator.Tests.KubeVirt;

/// <summary>A restored VM migrates while its RAM still arrives. A migration reads all of it.</summary>
public sealed class MigratedRestoreTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task After_a_migration_the_guest_has_all_its_RAM(bool agentIsFirst)
    {
        await using World world = await Running();
        await Migrate(world, """{"completed":true}""");
        if (agentIsFirst)
        {
            world.Agents.RestoreFails = ("QemuGone", "QEMU ended before all of its memory was there");
            world.Agents.Slow = false;
        }
        else
        {
            await EndSource(world);
        }

        await world.UntilRestore("r", RestorePhase.Ready);
        await world.Steps(5);

        Assert.StartsWith("True AllRamArrived: ", world.RestoreCondition("r", ConditionTypes.Resident), StringComparison.Ordinal);
        Assert.Equal(
            "True GuestRuns: the guest of snapshot s runs in pod virt-launcher-again-to on node node-8",
            world.RestoreCondition("r")
        );
        Assert.NotNull(world.Pod("virt-launcher-again-to"));
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);
        Assert.Equal("RerunOnFailure", Assert.Single(world.All(KubeVirtKinds.Machines)).Spec!["runStrategy"]!.ToString());
    }

    [Fact]
    public async Task A_guest_that_ends_during_a_migration_fails_the_restore()
    {
        await using World world = await Running();
        await Migrate(world, """{"completed":false}""");
        await EndSource(world);

        await world.UntilRestore("r", RestorePhase.Failed);

        Assert.StartsWith("False GuestEnded: pod virt-launcher-again ended", world.RestoreCondition("r"), StringComparison.Ordinal);
    }

    private static async Task<World> Running()
    {
        World world = await WithKept();
        _ = new FakeKubeVirt(world);
        world.Agents.Instant = true;
        await world.Add(Restore("r"));
        await world.Until(() => world.TasksEver(TaskAction.Restore) == 1, "the task is there");
        world.Agents.Slow = true;
        await world.UntilRestore("r", RestorePhase.Running);
        return world;
    }

    // Plays virt-handler: the pod on the other node becomes the active one.
    private static async Task Migrate(World world, string state)
    {
        RawObject vmi = world.Instance();
        await world.AddPod(FakeKubeVirt.Launcher(vmi, "virt-launcher-again-to", "node-8"));
        string uid = world.Pod("virt-launcher-again-to")!.Metadata.Uid;
        await world.Api.MergePatch(
            KubeVirtKinds.RawInstances,
            World.Namespace,
            Name,
            null,
            (JsonObject)
                JsonNode.Parse(
                    $$$"""{"status":{"phase":"Running","nodeName":"node-8","migrationState":{{{state}}},"activePods":{"{{{uid}}}":"node-8"} } }"""
                )!,
            default
        );
    }

    private static Task EndSource(World world) =>
        world.Api.Delete(CoreResources.Pods, World.Namespace, "virt-launcher-again", null, 0, default);
}
