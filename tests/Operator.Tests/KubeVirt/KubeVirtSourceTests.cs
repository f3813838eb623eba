using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.KubeVirt;
using Bgsnap.Operator.Tests.InMemory;
using static Bgsnap.Operator.Tests.KubeVirt.KubeVirtObjects;

namespace Bgsnap.Operator.Tests.KubeVirt;

/// <summary>Snapshots whose source is a KubeVirt VM.</summary>
public sealed class KubeVirtSourceTests
{
    [Theory]
    [InlineData(KubeVirtKinds.Machine)]
    [InlineData(KubeVirtKinds.Instance)]
    public async Task A_running_VM_is_captured_in_its_launcher_pod(string kind)
    {
        await using World world = await WithVm();
        world.Agents.Dead = true;
        await world.Add(Snapshot("a", kind));

        SnapshotTask task = await Ordered(world);

        VirtualMachineTarget vm = task.Spec.Source!;
        Assert.Equal((Launcher, world.Pod(Launcher)!.Metadata.Uid, "compute", "db"), (vm.PodName, vm.PodUID, vm.Container, vm.Name));
        Assert.Equal((null, "prod_db", Uuid), (vm.QmpSocket, vm.LibvirtDomain, vm.Uuid));
        Assert.Equal((TestObjects.Node, TestObjects.Node), (task.Spec.NodeName, world.Snapshot("a").Status!.NodeName));
        world.Agents.Dead = false;
        await world.UntilPhase("a", SnapshotPhase.Ready);
    }

    [Theory]
    [InlineData("""{"status":{"phase":"Scheduling"}}""", "SourceNotRunning", "is not running yet (Scheduling)")]
    [InlineData(
        """{"status":{"phase":"Failed"}}""",
        "SourceNotRunning",
        "VirtualMachine db is not running (Running): start it (virtctl start db), or delete this snapshot"
    )]
    [InlineData("""{"status":{"migrationState":{"targetNode":"node-2"}}}""", "Migrating", "is migrating to node node-2")]
    [InlineData(
        """{"status":{"conditions":[{"type":"Paused","status":"True","reason":"PausedByUser"}]}}""",
        "Paused",
        "is paused (PausedByUser): resume it (virtctl unpause vmi db), or set spec.capture.whenPaused to Capture"
    )]
    [InlineData(
        """{"status":{"volumeStatus":[{"name":"dump","memoryDumpVolume":{"startTimestamp":"2026-01-01T00:00:00Z"}}]}}""",
        "MemoryDump",
        "is being dumped to volume dump"
    )]
    public async Task A_temporary_obstacle_makes_the_capture_wait(string change, string reason, string message)
    {
        await using World world = await WithVm();
        await ChangeInstance(world, change);
        await world.Add(Snapshot("a"));
        await world.Steps(12);
        Assert.StartsWith($"False {reason}: ", world.Condition("a", ConditionTypes.Ready), StringComparison.Ordinal);
        Assert.Contains(message, world.Condition("a", ConditionTypes.Ready), StringComparison.Ordinal);
        Assert.Empty(world.Carriers);

        await ChangeInstance(world, """{"status":{"phase":"Running","migrationState":null,"conditions":null,"volumeStatus":null}}""");

        await world.UntilPhase("a", SnapshotPhase.Ready);
    }

    [Fact]
    public async Task Pluggable_memory_that_is_not_plugged_does_not_prevent_a_capture()
    {
        await using World world = await WithVm();
        await ChangeInstance(
            world,
            """{"spec":{"domain":{"memory":{"guest":"2Gi","maxGuest":"8Gi"}}},"status":{"memory":{"guestAtBoot":"2Gi","guestCurrent":"2048Mi","guestRequested":"2Gi"}}}"""
        );
        await world.Add(Snapshot("a", change: TestObjects.WithTemplate));

        await world.UntilPhase("a", SnapshotPhase.Ready);
    }

    [Theory]
    [InlineData(
        """{"spec":{"domain":{"devices":{"gpus":[{"name":"gpu1","deviceName":"nvidia.com/A10"}]}}}}""",
        "DeviceUnsupported",
        "gpu gpu1 is passed through by VFIO"
    )]
    [InlineData(
        """{"spec":{"domain":{"devices":{"hostDevices":[{"name":"qat","deviceName":"intel.com/qat"}]}}}}""",
        "DeviceUnsupported",
        "host device qat"
    )]
    [InlineData(
        """{"spec":{"domain":{"devices":{"interfaces":[{"name":"fast","sriov":{}}]}}}}""",
        "DeviceUnsupported",
        "SR-IOV interface fast is passed through"
    )]
    [InlineData(
        """{"spec":{"domain":{"devices":{"interfaces":[{"name":"fast","binding":{"name":"my-vhostuser"}}]}}}}""",
        "DeviceUnsupported",
        "interface fast uses vhost-user: another"
    )]
    [InlineData(
        """{"spec":{"domain":{"devices":{"interfaces":[{"name":"fast","passtBinding":{}}]}}}}""",
        "DeviceUnsupported",
        "interface fast uses vhost-user: another"
    )]
    [InlineData(
        """{"spec":{"domain":{"devices":{"filesystems":[{"name":"share","virtiofs":{}}]}}}}""",
        "DeviceUnsupported",
        "filesystem share uses virtiofs: another"
    )]
    [InlineData("""{"spec":{"domain":{"launchSecurity":{"sev":{}}}}}""", "DeviceUnsupported", "launchSecurity")]
    [InlineData(
        """{"status":{"memory":{"guestAtBoot":"2Gi","guestCurrent":"2Gi","guestRequested":"3Gi"}}}""",
        "DeviceUnsupported",
        "memory was hot-plugged since it started with 2Gi"
    )]
    [InlineData(
        """{"spec":{"domain":{"devices":{"disks":[{"name":"shared","shareable":true}]}}}}""",
        "DiskShared",
        "disk shared of VirtualMachineInstance db is shareable"
    )]
    public async Task A_device_that_prevents_a_correct_capture_is_refused_before_anything_is_created(
        string change,
        string reason,
        string message
    )
    {
        await using World world = await WithVm();
        await ChangeInstance(world, change);
        await world.Add(Snapshot("a", change: TestObjects.WithTemplate));
        await world.UntilPhase("a", SnapshotPhase.Failed);
        Assert.StartsWith($"False {reason}: ", world.Condition("a", ConditionTypes.Ready), StringComparison.Ordinal);
        Assert.Contains(message, world.Condition("a", ConditionTypes.Ready), StringComparison.Ordinal);
        Assert.Contains(
            reason == "DiskShared" ? "spec.capture.disks" : "then create another snapshot",
            world.Condition("a", ConditionTypes.Ready),
            StringComparison.Ordinal
        );
        Assert.Null(world.Claim("a"));
        Assert.Equal(0, world.TasksEver(TaskAction.Capture));
    }

    [Theory]
    [InlineData("None", null, true)]
    [InlineData("Named", "ua-root", true)]
    [InlineData("Named", "ua-shared", false)]
    [InlineData("All", null, false)]
    public async Task A_shareable_disk_that_is_left_out_does_not_prevent_a_capture(string select, string? name, bool taken)
    {
        await using World world = await WithVm();
        await ChangeInstance(world, """{"spec":{"domain":{"devices":{"disks":[{"name":"root"},{"name":"shared","shareable":true}]}}}}""");
        await world.Add(Snapshot("a", change: s => s.Capture = new CaptureSpec
                {
                    Disks = new DiskSelection { Select = select, Names = name is null ? null : [name] },
                }));
        await world.UntilPhase("a", taken ? SnapshotPhase.Ready : SnapshotPhase.Failed);
    }

    [Fact]
    public async Task A_paused_VM_is_captured_on_request()
    {
        await using World world = await WithVm();
        await ChangeInstance(world, """{"status":{"conditions":[{"type":"Paused","status":"True","reason":"PausedByUser"}]}}""");
        await world.Add(Snapshot("a", change: s => s.Capture = new CaptureSpec { WhenPaused = PausedGuest.Capture }));
        await world.UntilPhase("a", SnapshotPhase.Ready);
    }

    [Fact]
    public async Task A_missing_or_stopped_VM_makes_the_snapshot_wait()
    {
        await using World world = new();
        await world.AddClaim(TestObjects.ClaimNamed(TestObjects.Claim));
        await world.Add(Snapshot("a"));
        await world.Step();
        Assert.Equal(
            "False SourceNotFound: VirtualMachine db does not exist in namespace prod: create it, or delete this snapshot",
            world.Condition("a", ConditionTypes.Ready)
        );

        RawObject vm = await AddMachine(world, """{"printableStatus":"Stopped"}""");
        await world.Steps(6);
        Assert.Equal(
            "False SourceNotRunning: VirtualMachine db is not running (Stopped): start it (virtctl start db), or delete this snapshot",
            world.Condition("a", ConditionTypes.Ready)
        );

        await AddInstance(world, vm);
        await AddLauncher(world, Launcher, TestObjects.Node);
        await world.UntilPhase("a", SnapshotPhase.Ready);
    }

    [Fact]
    public async Task An_instance_without_an_owner_is_not_the_VM_of_its_name()
    {
        await using World world = await WithVm(owned: false);
        await world.Add(Snapshot("a"));
        await world.Step();
        Assert.StartsWith(
            "False SourceNotRunning: VirtualMachineInstance db does not belong to VirtualMachine db",
            world.Condition("a", ConditionTypes.Ready),
            StringComparison.Ordinal
        );
        await world.Add(Snapshot("b", KubeVirtKinds.Instance));
        await world.UntilPhase("b", SnapshotPhase.Ready);
    }

    [Theory]
    [InlineData(KubeVirtKinds.Machine, "virtualmachines")]
    [InlineData(KubeVirtKinds.Instance, "virtualmachineinstances")]
    public async Task Without_KubeVirt_its_VMs_are_refused_and_pods_are_captured(string kind, string plural)
    {
        await using World world = await TestObjects.WithVm();
        world.Api.NotServed.UnionWith(["virtualmachines", "virtualmachineinstances"]);
        await world.Add(TestObjects.Snapshot("pod"));
        await world.UntilPhase("pod", SnapshotPhase.Ready);
        Assert.DoesNotContain(world.Requests, r => r.Plural.StartsWith("virtualmachine", StringComparison.Ordinal));

        await world.Add(Snapshot("a", kind));

        await world.UntilPhase("a", SnapshotPhase.Failed);
        Assert.Equal(
            $"False KubeVirtNotInstalled: this cluster does not serve kubevirt.io/v1, so {kind} db cannot exist: install "
                + "KubeVirt, or name a Pod as the source of another snapshot",
            world.Condition("a", ConditionTypes.Ready)
        );
        Assert.Contains(world.Requests, r => r.Plural == plural);
    }

    // The operator mounts the claim on the VM's node; when it is mounted, the VM has migrated.
    [Fact]
    public async Task A_VM_that_migrates_while_waiting_is_captured_on_its_new_node()
    {
        await using World world = await WithVm();
        world.Node.Stuck = ("ContainerCreating", "the volume is being attached");
        await world.Add(Snapshot("a"));
        await world.Until(() => world.Carriers.Any(c => c.Spec?.NodeName == TestObjects.Node), "a carrier is on its way");
        await AddLauncher(world, "virt-launcher-db-there", "node-2");
        world.Agents.Dead = true;
        world.Node.Stuck = null;

        SnapshotTask task = await Ordered(world);

        Assert.Equal(("node-2", "virt-launcher-db-there"), (task.Spec.NodeName, task.Spec.Source!.PodName));
        Assert.Equal("node-2", world.Pod(task.Spec.Carrier.PodName)!.Spec.NodeName);
        world.Agents.Dead = false;
        await world.UntilPhase("a", SnapshotPhase.Ready);
    }

    [Fact]
    public async Task A_claim_of_a_template_has_room_for_its_memory_and_all_its_disks()
    {
        await using World world = await WithVm();
        await world.AddClaim(TestObjects.ClaimNamed("db-root", "5Gi"));
        await world.AddClaim(TestObjects.ClaimNamed("db-hot", "1Gi"));
        await ChangeInstance(world, """{"status":{"volumeStatus":[{"name":"root","size":77},{"name":"base","size":1073741824}]}}""");
        await world.Add(Snapshot("a", change: TestObjects.WithTemplate));
        await world.UntilPhase("a", SnapshotPhase.Ready);
        // 4 Gi of memory, 5 Gi, 1 Gi hotplugged and 1 Gi on no claim, 1 %, 64 Mi, rounded up to a tenth: 11.2 Gi
        Assert.Equal("11469Mi", world.Claim("a")!.Spec.Resources.Requests["storage"].ToString());

        await ChangeInstance(world, """{"status":{"memory":{"guestCurrent":"8Gi"}}}""");
        await world.Add(Snapshot("b", change: TestObjects.WithTemplate));
        await world.UntilPhase("b", SnapshotPhase.Ready);
        Assert.Equal("15668Mi", world.Claim("b")!.Spec.Resources.Requests["storage"].ToString());
    }
}
