using System.Text.Json.Nodes;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.KubeVirt;
using Bgsnap.Operator.KubeVirt.Restoring;
using Bgsnap.Operator.Tests.InMemory;
using k8s.Models;
using static Bgsnap.Operator.Tests.KubeVirt.MachineRestoreObjects;
using static Bgsnap.Operator.Tests.KubeVirt.PutBackObjects;

namespace Bgsnap.Operator.Tests.KubeVirt;

/// <summary>Restores that turn an existing VirtualMachine into the captured one.</summary>
public sealed class PutBackTests
{
    [Theory]
    [InlineData("""{"runStrategy":"Always"}""")]
    [InlineData("""{"running":true}""")]
    public async Task A_running_VM_is_stopped_after_its_disks_are_written_and_continues_from_the_capture(string how)
    {
        await using World world = await WithKept();
        FakeKubeVirt kubeVirt = new(world);
        RawObject vm = await Existing(world, how);
        string captured = world.Instance().Metadata.Uid;
        await world.Add(Restore("r", t => t.WhenExists = ExistingMachine.StopAndPutBack));
        await world.Until(() => world.TasksEver(TaskAction.RestoreDisks) == 1, "disks are ordered");
        Assert.Equal(captured, world.Instance().Metadata.Uid); // the VM runs while the agent writes the disks

        await world.Until(() => world.Restore("r").Status?.Phase == RestorePhase.Ready, "Ready");
        await world.Steps(3);

        RawObject after = Assert.Single(world.All(KubeVirtKinds.Machines));
        Assert.Equal(vm.Metadata.Uid, after.Metadata.Uid);
        Assert.NotEqual(captured, world.Instance().Metadata.Uid);
        Assert.Equal(("RerunOnFailure", null), (after.Spec!["runStrategy"]!.ToString(), after.Spec["running"]));
        Assert.False(after.Spec.ContainsKey("dataVolumeTemplates"));
        string id = world.Restore("r").Metadata.Uid[..8];
        Assert.Equal(
            $"{Name}-root-{id}",
            after.Spec["template"]!["spec"]!["volumes"]![0]!["persistentVolumeClaim"]!["claimName"]!.ToString()
        );
        // The user's other changes stay, and nothing of ours does.
        Assert.Equal("yes", after.Metadata.Labels["mine"]);
        Assert.Empty(after.Metadata.Annotations ?? new Dictionary<string, string>());
        Assert.Equal(2, kubeVirt.Started.Count);
        // Its former claims still exist.
        Assert.Contains(world.All(CoreResources.Claims), c => c.Metadata.Name == "db-root");
        Assert.Empty(world.Problems);
    }

    [Fact]
    public async Task A_VM_that_its_user_has_to_stop_makes_the_restore_wait()
    {
        await using World world = await WithKept();
        _ = new FakeKubeVirt(world);
        await Existing(world);
        await world.Add(Restore("r", t => t.WhenExists = ExistingMachine.PutBack));

        await world.Until(
            () => world.RestoreCondition("r").Contains("VirtualMachineRunning", StringComparison.Ordinal),
            "it is waited for"
        );
        Assert.Contains($"virtctl stop {Name}", world.RestoreCondition("r"), StringComparison.Ordinal);
        await world.Steps(20);
        Assert.Equal("Always", Assert.Single(world.All(KubeVirtKinds.Machines)).Spec!["runStrategy"]!.ToString());

        await world.ChangeMachine("""{"spec":{"runStrategy":"Halted"}}""");
        await world.Until(() => world.Restore("r").Status?.Phase == RestorePhase.Ready, "Ready");
        Assert.Equal("RerunOnFailure", Assert.Single(world.All(KubeVirtKinds.Machines)).Spec!["runStrategy"]!.ToString());
    }

    [Fact]
    public async Task A_VM_whose_guest_has_shut_down_is_stopped_and_its_ended_instance_removed()
    {
        await using World world = await WithKept();
        _ = new FakeKubeVirt(world);
        await Existing(world, """{"runStrategy":"Always"}""");
        await world.ChangeMachine("""{"spec":{"runStrategy":"Manual"}}""");
        await world.Api.MergePatch(
            KubeVirtKinds.RawInstances,
            World.Namespace,
            Name,
            null,
            (JsonObject)JsonNode.Parse("""{"status":{"phase":"Succeeded"}}""")!,
            default
        );

        await world.Add(Restore("r", t => t.WhenExists = ExistingMachine.PutBack));
        await world.Until(() => world.Restore("r").Status?.Phase == RestorePhase.Ready, "Ready");
    }

    [Theory]
    [InlineData("TargetDiffers")]
    [InlineData("SidecarsNotEnabled")]
    [InlineData("Deleted")]
    public async Task A_VM_whose_restored_guest_does_not_run_gets_its_former_spec_and_runs(string why)
    {
        await using World world = await WithKept();
        FakeKubeVirt kubeVirt = new(world);
        if (why == "TargetDiffers")
            world.Agents.RestoreFails = (why, "the target is not the machine that was captured: no device ua-root");
        RawObject before = await Existing(world);
        await world.Add(Restore("r", t => t.WhenExists = ExistingMachine.StopAndPutBack));
        await world.Until(() => world.RestoreCondition("r").Contains("VirtualMachineStopping", StringComparison.Ordinal), "it is stopped");
        if (why == "SidecarsNotEnabled")
            kubeVirt.Refuses = "sidecar feature gate is not enabled in kubevirt-config, invalid entry";
        if (why == "Deleted")
        {
            await world.Until(() => world.All(Resources.Tasks).Any(t => t.Spec.Action == TaskAction.Restore), "the restore is ordered");
            world.Agents.Slow = true;
            await world.DeleteRestore("r");
            await world.Until(() => world.FindRestore("r") is null, "it is gone");
        }
        else
        {
            await world.UntilRestore("r", RestorePhase.Failed);
            Assert.StartsWith($"False {why}: ", world.RestoreCondition("r"), StringComparison.Ordinal);
        }
        kubeVirt.Refuses = null;
        await world.Steps(8);

        AssertAsBefore(world, before);
        Assert.Equal("Scheduling", world.Instance().Status!["phase"]!.ToString());
        Assert.Null(world.Instance().Metadata.Labels);
        Assert.Equal("db-root", world.Instance().Spec!["volumes"]![0]!["dataVolume"]!["name"]!.ToString());
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);
    }

    [Fact]
    public async Task Two_restores_do_not_put_back_the_same_VM()
    {
        await using World world = await WithKept();
        FakeKubeVirt kubeVirt = new(world);
        await Existing(world);
        await world.Add(Restore("r", t => t.WhenExists = ExistingMachine.StopAndPutBack));
        await world.Until(() => world.RestoreCondition("r").Contains("VirtualMachineStopping", StringComparison.Ordinal), "it is stopped");
        kubeVirt.Slow = true;
        await world.Add(Restore("late", t => t.WhenExists = ExistingMachine.StopAndPutBack));
        await world.Until(
            () => world.RestoreCondition("late").Contains("VirtualMachineInUse", StringComparison.Ordinal),
            "the other waits"
        );
        Assert.Contains("another restore, r", world.RestoreCondition("late"), StringComparison.Ordinal);

        kubeVirt.Slow = false;
        await world.Until(() => world.Restore("r").Status?.Phase == RestorePhase.Ready, "Ready");
        await world.Until(() => world.Restore("late").Status?.Phase == RestorePhase.Ready, "the other too");
        Assert.Single(world.All(KubeVirtKinds.Machines));
    }

    [Fact]
    public async Task An_instance_from_before_the_restore_does_not_count_as_restored()
    {
        await using World world = await WithKept();
        FakeKubeVirt kubeVirt = new(world);
        RawObject vm = await Existing(world);
        await world.Add(Restore("r", t => t.WhenExists = ExistingMachine.StopAndPutBack));
        await world.Until(() => world.RestoreCondition("r").Contains("VirtualMachineStopping", StringComparison.Ordinal), "it is stopped");
        kubeVirt.Slow = true;
        await world.Until(
            () => world.All(KubeVirtKinds.Machines).Single().Metadata.Labels.ContainsKey(Names.RestoreLabel),
            "it is the captured one"
        );
        // Started by a KubeVirt with a stale copy of the VM.
        await kubeVirt.Run(vm);
        await world.Steps(10);
        Assert.Equal(0, world.TasksEver(TaskAction.Restore));

        await world.Api.Delete(KubeVirtKinds.RawInstances, World.Namespace, Name, null, null, default);
        await world.Api.Delete(CoreResources.Pods, World.Namespace, FakeKubeVirt.LauncherOf(vm), null, 0, default);
        kubeVirt.Slow = false;
        await world.Until(() => world.Restore("r").Status?.Phase == RestorePhase.Ready, "Ready");
    }

    [Fact]
    public async Task A_VM_with_a_spec_too_large_to_keep_is_left_alone()
    {
        await using World world = await WithKept();
        _ = new FakeKubeVirt(world);
        RawObject before = await Existing(world, $$"""{"runStrategy":"Always","note":"{{new string('x', 200 * 1024)}}"}""");
        await world.Add(Restore("r", t => t.WhenExists = ExistingMachine.StopAndPutBack));

        await world.UntilRestore("r", RestorePhase.Failed);
        await world.Steps(5);

        Assert.StartsWith("False VirtualMachineTooLarge: ", world.RestoreCondition("r"), StringComparison.Ordinal);
        AssertAsBefore(world, before);
    }

    [Fact]
    public async Task New_claims_copy_the_old_ones_where_the_restore_sets_nothing()
    {
        await using World world = await WithKept();
        _ = new FakeKubeVirt(world);
        await Existing(world);
        V1PersistentVolumeClaim had = TestObjects.ClaimNamed("db-hot");
        (had.Spec.StorageClassName, had.Spec.AccessModes, had.Spec.VolumeMode) = ("replicated", ["ReadWriteMany"], "Block");
        await world.AddClaim(had);
        await world.Add(
            Restore("r", t =>
                (t.WhenExists, t.Claims) = (
                    ExistingMachine.StopAndPutBack,
                    [new KubeVirtClaim { Volume = "root", StorageClassName = "fast" }]
                )
            )
        );
        string id = world.Restore("r").Metadata.Uid[..8];
        await world.Until(() => world.Claim($"{Name}-hot-{id}") is not null, "its claims are made");
        // Its old claim is deleted meanwhile: the new one keeps its properties.
        await world.Api.Delete(CoreResources.Claims, World.Namespace, "db-hot", null, null, default);
        await world.Until(() => world.All(Resources.Tasks).Any(t => t.Spec.Action == TaskAction.RestoreDisks), "disks are ordered");
        Assert.Equal(
            "/disks/hot",
            world
                .All(Resources.Tasks)
                .Single(t => t.Spec.Action == TaskAction.RestoreDisks)
                .Spec.Disks!.Single(d => d.Name == "ua-hot")
                .Path
        );
        await world.Until(() => world.Restore("r").Status?.Phase == RestorePhase.Ready, "Ready");

        V1PersistentVolumeClaim hot = world.All(CoreResources.Claims).Single(c => c.Metadata.Name == $"{Name}-hot-{id}");
        Assert.Equal(
            ("replicated", "ReadWriteMany", "Block"),
            (hot.Spec.StorageClassName, hot.Spec.AccessModes.Single(), hot.Spec.VolumeMode)
        );
        V1PersistentVolumeClaim root = world.All(CoreResources.Claims).Single(c => c.Metadata.Name == $"{Name}-root-{id}");
        Assert.Equal(("fast", "ReadWriteOnce", null), (root.Spec.StorageClassName, root.Spec.AccessModes.Single(), root.Spec.VolumeMode));
    }
}
