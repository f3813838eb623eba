using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.Tests.InMemory;
using k8s.Models;
using static Bgsnap.Operator.Tests.Restores.RestoreObjects;

namespace Bgsnap.Operator.Tests.Restores;

public sealed class SuccessTests
{
    [Fact]
    public async Task Into_a_pod_that_waits()
    {
        await using World world = await WithSnapshot();
        await world.AddPod(TestObjects.VmPod(Vm, "node-2"));
        world.Agents.Dead = true;
        await world.Add(IntoPod("r"));
        await world.Until(() => world.All(Resources.Tasks).Count == 1, "the task is there");
        SnapshotTask task = world.All(Resources.Tasks).Single();
        string uid = world.Restore("r").Metadata.Uid[..8];
        Assert.Equal(
            (TaskAction.Restore, "node-2", world.Snapshot("s").Status!.Directory, $"r-{uid}"),
            (task.Spec.Action, task.Spec.NodeName, task.Spec.Directory, task.Metadata.Name)
        );
        Assert.Equal(
            (Vm, world.Pod(Vm)!.Metadata.Uid, "qemu", "/run/qmp.sock"),
            (task.Spec.Target!.PodName, task.Spec.Target.PodUID, task.Spec.Target.Container, task.Spec.Target.QmpSocket)
        );
        Assert.Equal("All", task.Spec.Restore!.Disks);
        V1Pod carrier = world.Pod($"r-{uid}-carrier")!;
        Assert.Equal((carrier.Metadata.Uid, "carrier"), (task.Spec.Carrier.PodUID, task.Spec.Carrier.Container));
        V1VolumeMount mount = Assert.Single(carrier.Spec.Containers[0].VolumeMounts);
        Assert.Equal((Names.CarrierMountPath, true), (mount.MountPath, mount.ReadOnlyProperty));
        Assert.Equal(TestObjects.Claim, Assert.Single(carrier.Spec.Volumes).PersistentVolumeClaim.ClaimName);
        Assert.Equal(RestorePhase.Restoring, world.Restore("r").Status!.Phase);

        world.Agents.Dead = false;
        await world.UntilRestore("r", RestorePhase.Ready);
        await world.Steps(2);
        RestoreStatus s = world.Restore("r").Status!;
        Assert.Equal((Vm, "node-2", "850ms", "100%"), (s.PodName, s.NodeName, s.TimeToRun, s.Progress!.Text));
        Assert.NotNull(s.CompletionTime);
        Assert.Equal($"True GuestRuns: the guest of snapshot s runs in pod {Vm} on node node-2", world.RestoreCondition("r"));
        Assert.Equal(["Normal SnapshotFound", "Normal CarrierStarting", "Normal RestoreOrdered", "Normal RestoreReady"], world.Events("r"));
        // The agent's own time does not include the wait for the claim and the pod.
        Assert.Matches(
            $"runs in pod {Vm} on node node-2, 850ms after the agent began, [0-9.]+s after the restore was created$",
            world.EventObjects("r").Last().Message
        );
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);
        Assert.NotNull(world.Pod(Vm));
        Assert.True(world.Restore("r").Metadata.Finalizers is null or { Count: 0 });
        Assert.Empty(world.Problems);
    }

    /// <summary>The guest runs, so the restore is Ready; a user has to thaw it, so there is a warning.</summary>
    [Fact]
    public async Task A_guest_that_is_still_frozen_is_Ready_with_a_warning()
    {
        await using World world = await WithSnapshot();
        await world.AddPod(TestObjects.VmPod(Vm, "node-2"));
        world.Agents.StillFrozen = "its file systems are frozen: send guest-fsfreeze-thaw";
        await world.Add(IntoPod("r"));

        await world.UntilRestore("r", RestorePhase.Ready);
        await world.Steps(2);

        string message =
            $"the guest of snapshot s runs in pod {Vm} on node node-2, but its file systems are frozen: send guest-fsfreeze-thaw";
        Assert.Equal($"True GuestFrozen: {message}", world.RestoreCondition("r"));
        Assert.Equal("Warning GuestFrozen", world.Events("r").Last());
        Assert.Empty(world.Problems);
    }

    [Fact]
    public async Task Into_new_claims_and_a_new_pod()
    {
        await using World world = await WithSnapshot();
        await world.Add(IntoTemplate("r"));
        await world.Until(() => world.TasksEver(TaskAction.RestoreDisks) == 1, "the disks' task is there");
        SnapshotTask task = world.All(Resources.Tasks).Single();
        Assert.Equal((TaskAction.RestoreDisks, FakeNode.AnyNode), (task.Spec.Action, task.Spec.NodeName));
        Assert.Equal(
            [("vda", "/disks/a/disk.img", "raw"), ("vdb", "/disks/b/disk.qcow2", "qcow2")],
            task.Spec.Disks!.Select(d => (d.Name, d.Path, d.Driver))
        );
        Assert.Null(world.Pod("vm-r")); // no QEMU sees a half-written disk
        AssertStandsIn(world.Pod(task.Spec.Carrier.PodName)!);

        await world.UntilRestore("r", RestorePhase.Ready);
        await world.Steps(3);
        Assert.Equal(["/disks/a/disk.img", "/disks/b/disk.qcow2"], world.Agents.Written);
        V1Pod vm = world.Pod("vm-r")!;
        Assert.Equal([vm.Metadata.Uid], world.Agents.Running);
        Assert.Null(vm.Metadata.OwnerReferences);
        Assert.Equal(
            ("db", world.Restore("r").Metadata.Uid, "kept"),
            (vm.Metadata.Labels["app"], vm.Metadata.Labels[Names.RestoreLabel], vm.Metadata.Annotations["note"])
        );
        Assert.Equal(
            ("Never", "-incoming", "Memory"),
            (vm.Spec.RestartPolicy, vm.Spec.Containers[0].Args[0], vm.Spec.Volumes[2].EmptyDir.Medium)
        );
        Assert.Equal(
            FakeNode.AnyNode,
            vm.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution.Single()
                .Preference.MatchFields.Single()
                .Values.Single()
        );
        V1PersistentVolumeClaim a = world.Claim("a-r")!,
            b = world.Claim("b-r")!;
        // 1Gi, 5 %, 64Mi
        Assert.Equal(("1140Mi", "ReadWriteOnce"), (a.Spec.Resources.Requests["storage"].ToString(), a.Spec.AccessModes.Single()));
        Assert.Equal(
            ("3Gi", "fast", "ReadWriteMany"),
            (b.Spec.Resources.Requests["storage"].ToString(), b.Spec.StorageClassName, b.Spec.AccessModes.Single())
        );
        Assert.All(new[] { a, b }, c => Assert.Null(c.Metadata.OwnerReferences));
        RestoreStatus s = world.Restore("r").Status!;
        Assert.Equal([("vda", "a-r", "1140Mi"), ("vdb", "b-r", "3Gi")], s.Claims!.Select(c => (c.Disk, c.Name, c.Size)));
        Assert.Equal("True Written: the disks of snapshot s are on a-r, b-r", world.RestoreCondition("r", ConditionTypes.DisksRestored));
        Assert.Equal(
            [
                "Normal SnapshotFound",
                "Normal CarrierStarting",
                "Normal DisksOrdered",
                "Normal DisksRestored",
                "Normal PodStarting",
                "Normal CarrierStarting",
                "Normal RestoreOrdered",
                "Normal RestoreReady",
            ],
            world.Events("r")
        );
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);
        Assert.Empty(world.Problems);

        // The restore can go; the VM stays.
        await world.DeleteRestore("r");
        await world.Steps(5);
        Assert.Null(world.FindRestore("r"));
        Assert.NotNull(world.Pod("vm-r"));
        Assert.NotNull(world.Claim("a-r"));
        Assert.Equal(0, await world.Operator.Orphans.Sweep(default));
    }

    // The writer runs where the VM will fit, has the claims as the VM will, and has no further rights.
    private static void AssertStandsIn(V1Pod writer)
    {
        V1Container c = writer.Spec.Containers.Single();
        Assert.Equal(
            [(TestObjects.Claim, "/snapshots", true, null), ("a-r", "/disks/a", false, null), ("b-r", "/disks/b", false, "vm")],
            c.VolumeMounts.Select(m =>
                (
                    writer.Spec.Volumes.Single(v => v.Name == m.Name).PersistentVolumeClaim.ClaimName,
                    m.MountPath,
                    m.ReadOnlyProperty == true,
                    (string?)m.SubPath
                )
            )
        );
        Assert.Equal(
            ("1501m", (2L << 30) + (16 << 20), "1"),
            (
                c.Resources.Requests["cpu"].ToString(),
                (long)c.Resources.Requests["memory"].ToDecimal(),
                c.Resources.Limits["example.org/kvm"].ToString()
            )
        );
        Assert.Equal(c.Resources.Requests["memory"].ToDecimal(), c.Resources.Limits["memory"].ToDecimal());
        Assert.Equal(("yes", "vms"), (writer.Spec.NodeSelector["vms"], writer.Spec.Tolerations.Single().Key));
        Assert.True(writer.Spec.SecurityContext.RunAsNonRoot);
        Assert.Equal(["ALL"], c.SecurityContext.Capabilities.Drop);
    }

    [Fact]
    public async Task A_machine_without_disks_needs_no_claims()
    {
        await using World world = await WithSnapshot();
        await SetStatus(world, s => s.Disks = null);
        await world.Add(IntoTemplate("r", t => t.Claims = null));
        await world.UntilRestore("r", RestorePhase.Ready);
        Assert.Equal(0, world.TasksEver(TaskAction.RestoreDisks));
        Assert.Null(world.Restore("r").Status!.Claims);
        Assert.Null(world.Pod("vm-r")!.Spec.Affinity);
    }

    [Fact]
    public async Task A_disk_in_a_VolumeSnapshot_is_restored_by_its_claim_and_not_written()
    {
        DiskStatus cut = Disk("vda", "/disks/a/disk.img");
        (cut.StoredBytes, cut.VolumeSnapshotName) = (0, "s-vda");
        await using World world = await WithSnapshot(null, cut, Disk("vdb", "/disks/b/disk.qcow2", "qcow2"));
        await world.Add(IntoTemplate("r"));
        await world.UntilRestore("r", RestorePhase.Ready);
        Assert.Equal(["/disks/b/disk.qcow2"], world.Agents.Written);
        V1TypedLocalObjectReference source = world.Claim("a-r")!.Spec.DataSource;
        Assert.Equal(("VolumeSnapshot", "snapshot.storage.k8s.io", "s-vda"), (source.Kind, source.ApiGroup, source.Name));
        Assert.Null(world.Claim("b-r")!.Spec.DataSource);
    }

    [Fact]
    public async Task A_disk_may_be_a_block_device()
    {
        await using World world = await WithSnapshot(null, Disk("vda", "/dev/disk-a"));
        await world.Add(IntoTemplate("r", t =>
            {
                t.Claims =
                [
                    new RestoreClaim
                    {
                        Disk = "vda",
                        Name = "a-r",
                        Path = "/dev/disk-b",
                    },
                ];
                t.Pod.Spec["containers"]![0]!["volumeDevices"] = System.Text.Json.Nodes.JsonNode.Parse(
                    """[{"name":"a","devicePath":"/dev/disk-b"}]"""
                );
            }));
        await world.Until(() => world.TasksEver(TaskAction.RestoreDisks) == 1, "the disks' task is there");
        V1Pod writer = world.Pod(world.All(Resources.Tasks).Single().Spec.Carrier.PodName)!;
        Assert.Equal("/dev/disk-b", writer.Spec.Containers[0].VolumeDevices.Single().DevicePath);
        await world.UntilRestore("r", RestorePhase.Ready);
        Assert.Equal(
            ("Block", "1Gi"),
            (world.Claim("a-r")!.Spec.VolumeMode, world.Claim("a-r")!.Spec.Resources.Requests["storage"].ToString())
        );
        Assert.Equal(["/dev/disk-b"], world.Agents.Written);
    }

    [Fact]
    public async Task The_status_shows_the_progress_of_disks_and_memory()
    {
        await using World world = await WithSnapshot();
        world.Agents.Slow = true;
        await world.Add(IntoTemplate("r"));
        await world.Until(() => world.Restore("r").Status?.Progress?.Text == "disks 50%", "half of the disks is done");
        Assert.Equal(
            (RestorePhase.WritingDisks, 1L << 29),
            (world.Restore("r").Status!.Phase, world.Restore("r").Status!.Progress!.BytesPerSecond)
        );
        world.Agents.Slow = false;
        await world.Until(() => world.Restore("r").Status?.Phase == RestorePhase.Restoring, "memory is next");
        world.Agents.Slow = true;
        await world.Until(() => world.Restore("r").Status?.Progress?.Text == "memory 50%", "half of the memory is done");
        Assert.StartsWith(
            "False Restoring: the agent on node node-9 is restoring memory",
            world.RestoreCondition("r"),
            StringComparison.Ordinal
        );
    }

    [Fact]
    public async Task Five_restores_of_one_snapshot_run_two_at_a_time_on_a_node()
    {
        await using World world = await WithSnapshot();
        for (int i = 0; i < 5; i++)
            await world.Add(IntoTemplate("r" + i));
        await world.Until(
            () => Enumerable.Range(0, 5).All(i => world.Restore("r" + i).Status?.Phase == RestorePhase.Ready),
            "all are Ready"
        );
        Assert.Equal(5, world.Agents.Running.Distinct().Count());
        Assert.Equal(10, world.Agents.Written.Count);
        Assert.Equal(2, world.Agents.MostRestores);
        Assert.Empty(world.Operator.RestoreQueue.WaitingByNode());
        Assert.Contains("Normal Queued", Enumerable.Range(0, 5).SelectMany(i => world.Events("r" + i)));
    }

    [Fact]
    public async Task A_snapshot_that_is_still_being_captured_makes_the_restore_wait()
    {
        await using World world = await TestObjects.WithVm();
        await world.AddPod(TestObjects.VmPod(Vm));
        await world.Add(IntoPod("r"));
        await world.Steps(2);
        Assert.Equal(
            "False SnapshotNotFound: snapshot s does not exist in namespace prod: create it, or delete this restore",
            world.RestoreCondition("r")
        );
        world.Agents.Slow = true;
        await world.Add(TestObjects.Snapshot("s"));
        await world.UntilPhase("s", SnapshotPhase.Capturing);
        await world.Step();
        Assert.Equal("False SnapshotNotReady: snapshot s is not Ready yet (phase Capturing)", world.RestoreCondition("r"));
        world.Agents.Slow = false;
        await world.UntilRestore("r", RestorePhase.Ready);
    }
}
