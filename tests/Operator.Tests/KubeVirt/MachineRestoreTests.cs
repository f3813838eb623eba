using System.Text.Json.Nodes;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.KubeVirt;
using Bgsnap.Operator.KubeVirt.Restoring;
using Bgsnap.Operator.Tests.InMemory;
using static Bgsnap.Operator.Tests.KubeVirt.MachineRestoreObjects;

namespace Bgsnap.Operator.Tests.KubeVirt;

/// <summary>Restores of a snapshot into a VirtualMachine.</summary>
public sealed class MachineRestoreTests
{
    [Fact]
    public async Task A_VM_is_created_from_the_stored_objects_and_belongs_to_the_user_once_the_guest_runs()
    {
        await using World world = await WithKept();
        FakeKubeVirt kubeVirt = new(world);
        await world.Add(Restore("r", t => t.Claims = [
                    new KubeVirtClaim
                    {
                        Volume = "hot",
                        Name = "hot-again",
                        VolumeMode = "Block",
                        StorageClassName = "fast",
                    },
                ]));
        await world.Until(() => world.TasksEver(TaskAction.RestoreDisks) == 1, "disks are ordered");
        Assert.Empty(world.All(KubeVirtKinds.Machines)); // no QEMU sees a half-written disk
        Assert.Equal(
            [("ua-root", "/disks/root/disk.img", "raw"), ("ua-hot", "/disks/hot", "raw")],
            world
                .All(Resources.Tasks)
                .Single(t => t.Spec.Action == TaskAction.RestoreDisks)
                .Spec.Disks!.Select(d => (d.Name, d.Path, d.Driver))
        );
        Assert.Equal(
            [("again-root", ""), ("hot-again", "Block")],
            world
                .All(CoreResources.Claims)
                .Where(c => c.Metadata.Name != TestObjects.Claim)
                .Select(c => (c.Metadata.Name, c.Spec.VolumeMode ?? ""))
        );

        await world.Until(() => world.TasksEver(TaskAction.Restore) == 1, "the restore is ordered");
        JsonObject template = kubeVirt.Started.Single();
        JsonNode annotations = template["metadata"]!["annotations"]!;
        Assert.Equal(Kept.DomainXml, annotations[Names.CapturedDomainAnnotation]!.ToString());
        Assert.Equal(
            """[{"image":"theirs"},{"image":"bgsnap/operator:test","imagePullPolicy":"IfNotPresent","args":["kubevirt-hook"]}]""",
            annotations[MachinePlan.HooksAnnotation]!.ToString()
        );
        JsonNode spec = template["spec"]!,
            domain = spec["domain"]!;
        Assert.Equal(
            ("pc-q35-rhel9.6.0", KubeVirtObjects.Uuid, Mac),
            (
                domain["machine"]!["type"]!.ToString(),
                domain["firmware"]!["uuid"]!.ToString(),
                domain["devices"]!["interfaces"]![0]!["macAddress"]!.ToString()
            )
        );
        Assert.Equal(
            """[{"name":"root","persistentVolumeClaim":{"claimName":"again-root"}},{"name":"hot","persistentVolumeClaim":{"claimName":"hot-again"}},{"name":"init","cloudInitNoCloud":{"userData":"#"}},{"name":"iso","persistentVolumeClaim":{"claimName":"iso"}}]""",
            spec["volumes"]!.ToJsonString()
        );
        SnapshotTask task = world.All(Resources.Tasks).Single(t => t.Spec.Action == TaskAction.Restore);
        Assert.Equal(
            ("virt-launcher-again", "compute", "prod_again", KubeVirtObjects.Uuid, "None", FakeKubeVirt.Node),
            (
                task.Spec.Target!.PodName,
                task.Spec.Target.Container,
                task.Spec.Target.LibvirtDomain,
                task.Spec.Target.Uuid,
                task.Spec.Restore!.Disks,
                task.Spec.NodeName
            )
        );
        // Its next start boots from its disks.
        RawObject vm = world.All(KubeVirtKinds.Machines).Single();
        Assert.Equal(
            """{"hooks.kubevirt.io/hookSidecars":"[{\u0022image\u0022:\u0022theirs\u0022}]"}""",
            vm.Spec!["template"]!["metadata"]!["annotations"]!.ToJsonString()
        );
        Assert.Equal("Once", vm.Spec["runStrategy"]!.ToString());

        await world.Until(() => world.Restore("r").Status?.Phase == RestorePhase.Ready, "Ready");
        await world.Steps(3);
        vm = world.All(KubeVirtKinds.Machines).Single();
        Assert.Equal("RerunOnFailure", vm.Spec!["runStrategy"]!.ToString());
        Assert.Null(vm.Spec["instancetype"]);
        Assert.Equal(new Dictionary<string, string> { ["note"] = "kept" }, vm.Metadata.Annotations);
        Assert.Equal("db", vm.Metadata.Labels["app"]);
        Assert.DoesNotContain("kubevirt.io/size", vm.Metadata.Labels.Keys);
        Assert.StartsWith(
            "True GuestRuns: the guest of snapshot s runs in pod virt-launcher-again",
            world.RestoreCondition("r"),
            StringComparison.Ordinal
        );
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);

        await world.DeleteRestore("r");
        await world.Steps(5);
        Assert.NotEmpty(world.All(KubeVirtKinds.Machines));
        Assert.NotNull(world.Pod("virt-launcher-again"));
        Assert.Empty(world.Problems);
    }

    [Fact]
    public async Task A_copy_beside_the_original_gets_its_own_identity()
    {
        await using World world = await WithKept();
        FakeKubeVirt kubeVirt = new(world);
        await Original(world);
        await world.Add(Restore("r", t => t.MacAddresses = MacAddressPolicy.Regenerate));

        await world.Until(() => world.Restore("r").Status?.Phase == RestorePhase.Ready, "Ready");

        JsonNode domain = kubeVirt.Started.Single()["spec"]!["domain"]!;
        Assert.Equal("{}", domain["firmware"]!.ToJsonString());
        Assert.Null(domain["devices"]!["interfaces"]![0]!["macAddress"]);
    }

    [Fact]
    public async Task A_VM_that_keeps_its_MAC_address_waits_while_another_uses_it()
    {
        await using World world = await WithKept();
        _ = new FakeKubeVirt(world);
        await Original(world);
        await world.Add(Restore("r"));
        await world.Until(() => world.RestoreCondition("r").Contains("MacInUse", StringComparison.Ordinal), "it waits");
        Assert.Contains(
            "VirtualMachineInstance db is running with MAC address " + Mac,
            world.RestoreCondition("r"),
            StringComparison.Ordinal
        );
        Assert.Equal([TestObjects.Claim], world.All(CoreResources.Claims).Select(c => c.Metadata.Name));

        await world.Api.Delete(KubeVirtKinds.Machines, World.Namespace, "db", null, null, default);
        await world.Until(() => world.Restore("r").Status?.Phase == RestorePhase.Ready, "Ready");
    }

    [Fact]
    public async Task A_missing_feature_gate_of_KubeVirt_is_reported()
    {
        await using World world = await WithKept();
        FakeKubeVirt kubeVirt = new(world) { Refuses = "sidecar feature gate is not enabled in kubevirt-config, invalid entry" };
        await world.Add(Restore("r"));
        await world.Until(() => world.RestoreCondition("r").Contains("SidecarsNotEnabled", StringComparison.Ordinal), "it is said");
        Assert.Contains("featureGates", world.RestoreCondition("r"), StringComparison.Ordinal);

        kubeVirt.Refuses = null;
        await world.Until(() => world.Restore("r").Status?.Phase == RestorePhase.Ready, "Ready");
    }

    [Fact]
    public async Task A_failed_restore_leaves_nothing()
    {
        await using World world = await WithKept();
        world.Agents.RestoreFails = ("TargetDiffers", "the target is not the machine that was captured: no device ua-root");
        _ = new FakeKubeVirt(world);
        await world.Add(Restore("r"));

        await world.Until(() => world.Restore("r").Status?.Phase == RestorePhase.Failed, "Failed");
        await world.Steps(5);

        Assert.StartsWith(
            "False TargetDiffers: pod virt-launcher-again: the target is not",
            world.RestoreCondition("r"),
            StringComparison.Ordinal
        );
        AssertNothingLeft(world);
    }

    [Fact]
    public async Task An_instance_that_ends_before_its_guest_ran_is_not_booted_from_its_disks()
    {
        await using World world = await WithKept();
        FakeKubeVirt kubeVirt = new(world) { Fails = true };
        await world.Add(Restore("r"));

        await world.UntilRestore("r", RestorePhase.Failed);
        await world.Steps(5);

        Assert.StartsWith(
            "False VirtualMachineEnded: VirtualMachineInstance again, which was created for this restore, has ended (Failed)",
            world.RestoreCondition("r"),
            StringComparison.Ordinal
        );
        Assert.Single(kubeVirt.Started);
        AssertNothingLeft(world);
    }

    [Fact]
    public async Task A_VM_that_is_deleted_during_its_restore_is_not_recreated()
    {
        await using World world = await WithKept();
        FakeKubeVirt kubeVirt = new(world) { Refuses = "quota exceeded" };
        await world.Add(Restore("r"));
        await world.Until(
            () => world.RestoreCondition("r").Contains("VirtualMachineNotStarting", StringComparison.Ordinal),
            "KubeVirt's message is shown"
        );
        Assert.Contains("quota exceeded", world.RestoreCondition("r"), StringComparison.Ordinal);

        await world.Api.Delete(KubeVirtKinds.Machines, World.Namespace, Name, null, null, default);
        await world.UntilRestore("r", RestorePhase.Failed);
        await world.Steps(5);

        Assert.StartsWith("False VirtualMachineGone", world.RestoreCondition("r"), StringComparison.Ordinal);
        Assert.Empty(kubeVirt.Started);
        AssertNothingLeft(world);
    }

    [Fact]
    public async Task A_restore_deleted_before_the_guest_runs_leaves_nothing()
    {
        await using World world = await WithKept();
        _ = new FakeKubeVirt(world);
        await world.Add(Restore("r"));
        await world.Until(() => world.All(Resources.Tasks).Any(t => t.Spec.Action == TaskAction.Restore), "the restore is ordered");
        world.Agents.Slow = true;
        await world.DeleteRestore("r");

        await world.Until(() => world.FindRestore("r") is null, "it is gone");
        await world.Steps(5);
        AssertNothingLeft(world);
    }

    [Theory]
    [InlineData("VirtualMachineExists")]
    [InlineData("NotOfKubeVirt")]
    [InlineData("NoHookImage")]
    [InlineData("NoSuchVolume")]
    [InlineData("DiskNotCaptured")]
    [InlineData("SnapshotCorrupt")]
    [InlineData("HostDisk")]
    public async Task An_impossible_restore_is_refused_before_anything_is_created(string reason)
    {
        await using World world = await WithKept(
            reason == "NoHookImage" ? null : "bgsnap/operator:test",
            reason == "DiskNotCaptured" ? ["ua-root"] : ["ua-root", "ua-hot", "ua-init"]
        );
        _ = new FakeKubeVirt(world) { Slow = true };
        if (reason == "VirtualMachineExists")
            await world.Api.Create(
                KubeVirtKinds.Machines,
                KubeVirtObjects.Raw("kubevirt.io/v1", KubeVirtKinds.Machine, Name, """{"runStrategy":"Halted"}"""),
                default
            );
        if (reason == "HostDisk")
            world.Agents.Machine!.Objects = Kept.Objects!.Replace(
                "\"persistentVolumeClaim\":{\"claimName\":\"iso\"}",
                "\"hostDisk\":{\"path\":\"/etc/shadow\"}",
                StringComparison.Ordinal
            );
        if (reason == "SnapshotCorrupt")
            world.Agents.Machine!.Objects = """{"items":[]}""";
        if (reason == "NotOfKubeVirt")
            world.Agents.DescribeFails = (reason, "it is not of a KubeVirt VM");
        await world.Add(Restore("r", t => t.Claims = reason == "NoSuchVolume" ? [new KubeVirtClaim { Volume = "data" }] : null));

        await world.Until(() => world.Restore("r").Status?.Phase == RestorePhase.Failed, "Failed");

        Assert.StartsWith($"False {reason}: ", world.RestoreCondition("r"), StringComparison.Ordinal);
        Assert.Equal([TestObjects.Claim], world.All(CoreResources.Claims).Select(c => c.Metadata.Name));
        Assert.Equal(reason == "VirtualMachineExists" ? 1 : 0, world.All(KubeVirtKinds.Machines).Count);
    }

    // The captured VM still runs, with its MAC address.
    private static async Task Original(World world)
    {
        RawObject vm = await KubeVirtObjects.AddMachine(
            world,
            """{"printableStatus":"Running"}""",
            """{"runStrategy":"Manual","template":{"spec":{"domain":{}}}}"""
        );
        await KubeVirtObjects.AddInstance(world, vm);
        await KubeVirtObjects.ChangeInstance(
            world,
            """{"status":{"interfaces":[{"name":"default","mac":"MAC"}]}}""".Replace(
                "MAC",
                Mac.ToUpperInvariant(),
                StringComparison.Ordinal
            )
        );
    }
}
