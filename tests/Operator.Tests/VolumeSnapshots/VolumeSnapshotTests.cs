using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Tests.InMemory;
using Bgsnap.Operator.VolumeSnapshots;
using k8s.Models;

namespace Bgsnap.Operator.Tests.VolumeSnapshots;

/// <summary>The storage cuts the disks while the guest is stopped, or fails to.</summary>
public sealed class VolumeSnapshotTests
{
    [Fact]
    public async Task The_guest_resumes_when_every_disk_is_cut_and_the_snapshot_is_Ready_when_the_storage_has_finished()
    {
        await using World world = await VolumeSnapshotObjects.World();
        await world.Add(VolumeSnapshotObjects.Snapshot());
        await world.Until(() => world.Agents.Held.Count == 1, "the guest is held");
        await world.Reconcile();
        string directory = world.Snapshot("a").Status!.Directory!;
        Assert.Equal(
            [$"{directory}-db-data", $"{directory}-db-root"],
            world.Storage.All.Select(v => v.Metadata.Name).Order(StringComparer.Ordinal)
        );
        VolumeSnapshot root = world.Storage.All.Single(v => v.Metadata.Name == $"{directory}-db-root");
        Assert.Equal(("db-root", null), (root.Spec.Source.PersistentVolumeClaimName, root.Spec.VolumeSnapshotClassName));
        V1OwnerReference owner = Assert.Single(root.Metadata.OwnerReferences);
        Assert.Equal((world.Snapshot("a").Metadata.Uid, "VMBackgroundSnapshot"), (owner.Uid, owner.Kind));
        Assert.Equal(world.Snapshot("a").Metadata.Uid, root.Metadata.Labels[Names.SnapshotLabel]);
        Assert.StartsWith(
            "False GuestHeld: the guest is stopped while the storage takes VolumeSnapshots",
            world.Condition("a", ConditionTypes.Ready),
            StringComparison.Ordinal
        );

        await world.Until(() => world.Agents.Released.Count == 1, "the guest is released", 10);
        IReadOnlyDictionary<string, string> names = world.Agents.Released.Values.Single();
        Assert.Equal(new Dictionary<string, string> { ["vda"] = $"{directory}-db-root", ["vdb"] = $"{directory}-db-data" }, names);
        Assert.InRange(world.Agents.Held.Values.Single(), 0, 2);
        await world.UntilPhase("a", SnapshotPhase.Ready);
        Assert.All(world.Storage.All, v => Assert.True(v.Status!.ReadyToUse));
        Assert.Empty(world.Problems);
    }

    [Fact]
    public async Task A_named_class_is_used()
    {
        await using World world = await VolumeSnapshotObjects.World(withClass: false);
        await world.Storage.AddClass("slow", isDefault: false);
        await world.Add(VolumeSnapshotObjects.Snapshot(c => c.VolumeSnapshotClassName = "slow"));
        await world.UntilPhase("a", SnapshotPhase.Ready);
        Assert.All(world.Storage.All, v => Assert.Equal("slow", v.Spec.VolumeSnapshotClassName));
    }

    [Fact]
    public async Task They_are_deleted_with_the_snapshot()
    {
        await using World world = await VolumeSnapshotObjects.World();
        await world.Add(VolumeSnapshotObjects.Snapshot());
        await world.UntilPhase("a", SnapshotPhase.Ready);
        await world.Delete("a");
        await world.Until(() => world.Find("a") is null && world.Storage.All.Count == 0, "all are gone");
    }

    [Fact]
    public async Task With_Retain_they_stay()
    {
        await using World world = await VolumeSnapshotObjects.World();
        await world.Add(VolumeSnapshotObjects.Snapshot(policy: "Retain"));
        await world.UntilPhase("a", SnapshotPhase.Ready);
        await world.Delete("a");
        await world.Until(() => world.Find("a") is null, "the snapshot is gone");
        await world.Steps(5);
        Assert.Equal(2, world.Storage.All.Count);
    }

    [Theory]
    [InlineData("Delete")]
    [InlineData("Retain")]
    public async Task Deletion_while_the_guest_is_held_resumes_it_and_leaves_no_VolumeSnapshot(string policy)
    {
        await using World world = await VolumeSnapshotObjects.World();
        world.Storage.Mood = StorageMood.Slow;
        await world.Add(VolumeSnapshotObjects.Snapshot(c => c.MaxDowntime = "60s", policy));
        await world.Until(() => world.Storage.All.Count == 2, "they are made");
        await world.Delete("a");
        await world.Until(() => world.Find("a") is null && world.Storage.All.Count == 0, "all are gone", 20);
        Assert.InRange(world.Agents.Held.Values.Single(), 0, 3);
        Assert.Empty(world.Agents.Directories);
    }

    // --- seen before the guest is touched ---

    [Fact]
    public async Task Without_the_API_the_guest_is_not_touched() =>
        await Refused(
            w =>
            {
                w.Api.NotServed.UnionWith(["volumesnapshots", "volumesnapshotclasses"]);
                return Task.CompletedTask;
            },
            null,
            "False VolumeSnapshotsNotServed: this cluster does not serve snapshot.storage.k8s.io/v1: install the CRDs and the "
                + "controller of kubernetes-csi/external-snapshotter, or use another spec.capture.diskMethod"
        );

    [Fact]
    public async Task Without_the_class_the_guest_is_not_touched() =>
        await Refused(
            w => w.Storage.AddClass(),
            "gold",
            "False VolumeSnapshotClassNotFound: VolumeSnapshotClass gold does not exist: name one of those that kubectl get "
                + "volumesnapshotclasses lists"
        );

    [Fact]
    public async Task Without_a_default_class_the_guest_is_not_touched() =>
        await Refused(
            w => w.Storage.AddClass(isDefault: false),
            null,
            "False NoDefaultVolumeSnapshotClass: no VolumeSnapshotClass is the cluster's default"
        );

    [Fact]
    public async Task With_a_class_of_another_driver_the_guest_is_not_touched() =>
        await Refused(
            w => w.Storage.AddClass(driver: "nfs.example.org"),
            null,
            "False VolumeSnapshotClassOfOtherDriver: claim db-root uses CSI driver csi.example.org, but VolumeSnapshotClass fast "
                + "uses nfs.example.org: name"
        );

    [Fact]
    public async Task A_VM_without_claims_is_refused()
    {
        await using World world = await TestObjects.WithVm();
        await world.Storage.AddClass();
        await world.Add(VolumeSnapshotObjects.Snapshot());
        await world.UntilPhase("a", SnapshotPhase.Failed);
        Assert.StartsWith(
            "False NoClaims: container qemu of pod db mounts no claim",
            world.Condition("a", ConditionTypes.Ready),
            StringComparison.Ordinal
        );
    }

    // --- seen when the guest is held: the agent resumes it at once ---

    [Fact]
    public async Task A_failed_VolumeSnapshot_resumes_the_guest_immediately_and_is_reported()
    {
        await using World world = await VolumeSnapshotObjects.World();
        world.Storage.MoodOf["db-data"] = StorageMood.Fails;
        await world.Add(VolumeSnapshotObjects.Snapshot());
        await Freed(
            world,
            "False VolumeSnapshotFailed: the storage could not take VolumeSnapshot a-00000006-db-data of claim db-data: rpc "
                + "error: code = ResourceExhausted desc = no snapshots left. The capture was discarded; see the log of the CSI driver"
        );
    }

    [Fact]
    public async Task A_rejected_VolumeSnapshot_resumes_the_guest_immediately_and_is_reported()
    {
        await using World world = await VolumeSnapshotObjects.World();
        world.Fault = (_, r) => r is { Verb: "create", Plural: "volumesnapshots" } ? Fault.Refused : Fault.None;
        await world.Add(VolumeSnapshotObjects.Snapshot());
        await Freed(world, "False VolumeSnapshotRefused: the API server rejected a VolumeSnapshot: exceeded quota: pods");
    }

    [Fact]
    public async Task A_disk_without_a_claim_resumes_the_guest_immediately_and_is_reported()
    {
        await using World world = await VolumeSnapshotObjects.World();
        world.Agents.HeldDisks = [new DiskStatus { Name = "vdc", Path = "/iso/scratch.img" }];
        await world.Add(VolumeSnapshotObjects.Snapshot());
        await Freed(
            world,
            "False DiskNotOnClaim: disk vdc (/iso/scratch.img) is not on a claim of pod db: name only the other disks in spec.capture.disks"
        );
    }

    [Fact]
    public async Task A_VM_without_disks_on_claims_is_resumed_immediately()
    {
        await using World world = await VolumeSnapshotObjects.World();
        world.Agents.HeldDisks = [];
        await world.Add(VolumeSnapshotObjects.Snapshot());
        await Freed(world, "False NoDisks: the virtual machine in pod db has no disk for a VolumeSnapshot");
    }

    [Fact]
    public async Task Storage_that_is_too_slow_costs_the_guest_maxDowntime_and_no_more()
    {
        await using World world = await VolumeSnapshotObjects.World();
        world.Storage.MoodOf["db-data"] = StorageMood.Slow;
        await world.Add(VolumeSnapshotObjects.Snapshot(c => c.MaxDowntime = "4s"));
        await world.UntilPhase("a", SnapshotPhase.Failed, 30);
        Assert.Equal(4, world.Agents.Held.Values.Single());
        Assert.Equal(
            "False DowntimeExceeded: the guest would have been stopped for longer than 4s; it runs on and nothing was kept; the "
                + "storage had not taken VolumeSnapshot a-00000006-db-data of claim db-data: raise spec.capture.maxDowntime, "
                + "or use another spec.capture.diskMethod",
            world.Condition("a", ConditionTypes.Ready)
        );
        await world.Steps(3);
        Assert.Empty(world.Storage.All);
        Assert.Null(world.Snapshot("a").Status!.Directory);
    }

    [Fact]
    public async Task An_absent_operator_costs_a_held_guest_maxDowntime_and_no_more()
    {
        await using World world = await VolumeSnapshotObjects.World();
        await world.Add(VolumeSnapshotObjects.Snapshot(c => c.MaxDowntime = "5s"));
        await world.Until(() => world.Agents.Held.Count == 1, "the guest is held");
        for (int i = 0; i < 10; i++)
            await world.Agents.Tick();
        Assert.Equal(5, world.Agents.Held.Values.Single());
        await world.Restart();
        await world.UntilPhase("a", SnapshotPhase.Failed, 10);
        Assert.StartsWith("False DowntimeExceeded: ", world.Condition("a", ConditionTypes.Ready), StringComparison.Ordinal);
        await world.Steps(3);
        Assert.Empty(world.Storage.All);
    }

    // --- seen when the guest runs on ---

    [Fact]
    public async Task Storage_that_never_finishes_fails_the_snapshot_at_its_deadline_and_blocks_no_other()
    {
        await using World world = await VolumeSnapshotObjects.World();
        await world.AddPod(TestObjects.VmPod("web"));
        world.Storage.MoodOf["db-root"] = StorageMood.NeverDone;
        await world.Add(VolumeSnapshotObjects.Snapshot(c => c.Deadline = "2m"));
        const string Waits =
            "False WaitingForVolumeSnapshots: the guest runs; the storage is still working on VolumeSnapshot a-00000007-db-root "
            + "of claim db-root";
        await world.Until(
            () => world.Condition("a", ConditionTypes.Ready).StartsWith(Waits, StringComparison.Ordinal),
            "it waits for the storage"
        );
        await world.Add(TestObjects.Snapshot("b", "web"));
        await world.UntilPhase("b", SnapshotPhase.Ready, 30);
        await world.UntilPhase("a", SnapshotPhase.Failed, 130);
        Assert.StartsWith(
            "False DeadlineExceeded: the snapshot was not Ready within 00:02:00 of its creation: the guest runs; the storage "
                + "is still working on",
            world.Condition("a", ConditionTypes.Ready),
            StringComparison.Ordinal
        );
        await world.Steps(3);
        Assert.Empty(world.Storage.All);
        Assert.NotNull(world.Snapshot("a").Status!.Directory); // its RAM stays until it is deleted
        await world.Delete("a");
        await world.Until(() => world.Find("a") is null, "it is gone");
        Assert.Single(world.Agents.Directories); // b's
    }

    [Fact]
    public async Task A_VolumeSnapshot_deleted_before_it_is_ready_fails_the_snapshot()
    {
        await using World world = await VolumeSnapshotObjects.World();
        world.Storage.Mood = StorageMood.NeverDone;
        await world.Add(VolumeSnapshotObjects.Snapshot());
        await world.Until(
            () => world.Condition("a", ConditionTypes.Ready).StartsWith("False WaitingForVolumeSnapshots", StringComparison.Ordinal),
            "it waits for the storage"
        );
        await world.Api.Delete(VolumeSnapshotKinds.Snapshots, World.Namespace, "a-00000006-db-root", null, null, default);
        await world.UntilPhase("a", SnapshotPhase.Failed, 30);
        Assert.StartsWith(
            "False VolumeSnapshotLost: VolumeSnapshot a-00000006-db-root was deleted",
            world.Condition("a", ConditionTypes.Ready),
            StringComparison.Ordinal
        );
    }

    [Fact]
    public async Task Other_methods_do_not_use_the_storage()
    {
        await using World world = await VolumeSnapshotObjects.World(withClass: false);
        world.Api.NotServed.UnionWith(["volumesnapshots", "volumesnapshotclasses"]);
        await world.Add(TestObjects.Snapshot("a", change: s => s.Capture = new CaptureSpec { DiskMethod = DiskCaptureMethod.Auto }));
        await world.UntilPhase("a", SnapshotPhase.Ready);
        world.Agents.CaptureFails = ("DiskFull", "no space left");
        await world.Add(TestObjects.Snapshot("b"));
        await world.UntilPhase("b", SnapshotPhase.Failed);
        await world.Delete("a");
        await world.Until(() => world.Find("a") is null, "it is gone");
        Assert.DoesNotContain(world.Requests, r => r.Plural.StartsWith("volumesnapshot", StringComparison.Ordinal));
    }

    private static async Task Refused(Func<World, Task> prepare, string? className, string expected)
    {
        await using World world = await VolumeSnapshotObjects.World(withClass: false);
        await prepare(world);
        await world.Add(VolumeSnapshotObjects.Snapshot(c => c.VolumeSnapshotClassName = className));
        await world.UntilPhase("a", SnapshotPhase.Failed, 10);
        Assert.StartsWith(expected, world.Condition("a", ConditionTypes.Ready), StringComparison.Ordinal);
        Assert.Equal(0, world.TasksEver(TaskAction.Capture));
        Assert.Empty(world.Carriers);
        Assert.Empty(world.Agents.Held);
    }

    private static async Task Freed(World world, string expected)
    {
        await world.UntilPhase("a", SnapshotPhase.Failed, 30);
        Assert.StartsWith(expected, world.Condition("a", ConditionTypes.Ready), StringComparison.Ordinal);
        Assert.InRange(world.Agents.Held.Values.Single(), 0, 2);
        Assert.Empty(world.Agents.Released);
        await world.Steps(3);
        Assert.Empty(world.Storage.All);
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);
        Assert.Null(world.Snapshot("a").Status!.Directory);
    }
}
