using System.Text.Json.Nodes;
using Bgsnap.E2E.Tests.Harness;

namespace Bgsnap.E2E.Tests;

/// <summary>The storage, which a small program plays, cuts the disks while the guest is held.</summary>
[Collection(nameof(RealCluster))]
public sealed class VolumeSnapshotTests(ClusterFixture cluster)
{
    private const string Capture = "capture: { diskMethod: VolumeSnapshot, maxDowntime: 20s }";

    [SkippableFact]
    public async Task A_machine_continues_from_disks_in_VolumeSnapshots()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var machine = new DiskMachine(cluster, lab);
        await lab.ClaimAsync();
        await machine.StartAsync();
        await using var storage = await Storage.InstallAsync(cluster, lab);

        var (snapshot, before, after) = await machine.SnapshotAsync("s", Capture);

        var made = await storage.SnapshotsAsync();
        Assert.Equal(
            ["vm-a", "vm-b"],
            made.Select(v => v!["spec"]!["source"]!["persistentVolumeClaimName"]!.GetValue<string>()).Order(StringComparer.Ordinal)
        );
        Assert.All(made, v => Assert.Equal("s", v!["metadata"]!["ownerReferences"]![0]!["name"]!.GetValue<string>()));
        var disks = snapshot["status"]!["disks"]!.AsArray();
        Assert.Equal(["vda", "vdb"], disks.Select(d => d!["name"]!.GetValue<string>()));
        Assert.Equal(Names(made), disks.Select(d => d!["volumeSnapshotName"]!.GetValue<string>()).Order(StringComparer.Ordinal));
        await lab.NoHelpersAsync();
        await machine.RemoveAsync();

        await machine.ApplyRestoreAsync("back", "s", withVolumes: false);
        await machine.ReadyAsync("back");

        // The guest checks its disks against its memory.
        await lab.CountsAsync("back");
        Assert.InRange(await lab.FirstTickAsync("back"), before, after + 1);
        var claim = await cluster.Kubectl.GetAsync("-n", lab.Name, "pvc", "back-a");
        Assert.Contains(claim["spec"]!["dataSource"]!["name"]!.GetValue<string>(), Names(made));

        // They are deleted with the snapshot that owns them.
        await cluster.Kubectl.RunAsync("-n", lab.Name, "delete", "vmbgr", "back", "--timeout=60s");
        await cluster.Kubectl.RunAsync("-n", lab.Name, "delete", "vmbgs", "s", "--timeout=60s");
        await cluster.Kubectl.GoneAsync(Lab.Soon, "-n", lab.Name, "volumesnapshots");
        await lab.CountsAsync("back");
    }

    [SkippableFact]
    public async Task Storage_that_fails_costs_the_snapshot_and_never_the_guest()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var machine = new DiskMachine(cluster, lab);
        var claim = await lab.ClaimAsync();
        await machine.StartAsync();

        Assert.Contains("external-snapshotter", await FailsAsync("unserved", "VolumeSnapshotsNotServed"), StringComparison.Ordinal);

        await using var storage = await Storage.InstallAsync(cluster, lab);
        Assert.Contains(
            "no VolumeSnapshotClass none",
            await FailsAsync("unclassed", "VolumeSnapshotClassNotFound", "volumeSnapshotClassName: none"),
            StringComparison.Ordinal
        );

        storage.Mood = StorageMood.Fails;
        Assert.Contains(Storage.Words, await FailsAsync("refused", "VolumeSnapshotFailed"), StringComparison.Ordinal);

        storage.Mood = StorageMood.Slow;
        var slow = await FailsAsync("slow", "DowntimeExceeded", "maxDowntime: 3s");
        foreach (var disk in (string[])["vm-a", "vm-b"])
            Assert.Contains($"of claim {disk}", slow, StringComparison.Ordinal);

        storage.Mood = StorageMood.NeverDone;
        Assert.Contains(
            "stays on the claim until this snapshot is deleted",
            await FailsAsync("undone", "DeadlineExceeded", "maxDowntime: 20s, deadline: 30s", keepsMemory: true),
            StringComparison.Ordinal
        );

        await cluster.Kubectl.RunAsync(
            "-n",
            lab.Name,
            "annotate",
            "pvc",
            "vm-a",
            "volume.kubernetes.io/storage-provisioner=other.example.org"
        );
        Assert.Contains(
            "claim vm-a is of CSI driver other.example.org",
            await FailsAsync("foreign", "VolumeSnapshotClassOfOtherDriver"),
            StringComparison.Ordinal
        );

        // With working storage, the machine can be captured.
        await cluster.Kubectl.RunAsync("-n", lab.Name, "annotate", "pvc", "vm-a", "volume.kubernetes.io/storage-provisioner-");
        storage.Mood = StorageMood.Good;
        await machine.SnapshotAsync("good", Capture);

        async Task<string> FailsAsync(string name, string reason, string more = "maxDowntime: 20s", bool keepsMemory = false)
        {
            await lab.ApplyAsync(Lab.Snapshot(name, more: $"capture: {{ diskMethod: VolumeSnapshot, {more} }}"));
            var failed = await lab.FailedAsync(name, reason);
            await lab.CountsAsync("vm");
            await lab.NoHelpersAsync();
            if (keepsMemory)
            {
                Assert.Single(Directory.GetFileSystemEntries(claim));
                await cluster.Kubectl.RunAsync("-n", lab.Name, "delete", "vmbgs", name, "--timeout=60s");
            }
            Assert.Empty(Directory.GetFileSystemEntries(claim));
            if (name != "unserved")
                await cluster.Kubectl.GoneAsync(Lab.Soon, "-n", lab.Name, "volumesnapshots");
            return Lab.Message(failed)!;
        }
    }

    private static IEnumerable<string> Names(JsonArray items) =>
        items.Select(v => v!["metadata"]!["name"]!.GetValue<string>()).Order(StringComparer.Ordinal);
}
