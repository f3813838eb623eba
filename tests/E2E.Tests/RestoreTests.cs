using Bgsnap.E2E.Tests.Harness;

namespace Bgsnap.E2E.Tests;

/// <summary>A machine with disks is captured and lost, and a restore brings it back.</summary>
[Collection(nameof(RealCluster))]
public sealed class RestoreTests(ClusterFixture cluster)
{
    [SkippableTheory]
    [InlineData("None")]
    [InlineData("Zstd")]
    public async Task A_machine_lost_with_its_disks_continues_from_the_captured_number(string compression)
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var machine = new DiskMachine(cluster, lab);
        await lab.ClaimAsync();
        await machine.StartAsync();
        var (snapshot, before, after) = await machine.SnapshotAsync("s", $"capture: {{ compression: {compression} }}");
        Assert.Equal(["vda", "vdb"], snapshot["status"]!["disks"]!.AsArray().Select(d => d!["name"]!.GetValue<string>()));
        await machine.RemoveAsync();

        await machine.ApplyRestoreAsync("back", "s");
        var status = (await machine.ReadyAsync("back"))["status"]!;

        await lab.CountsAsync("back");
        Assert.InRange(await lab.FirstTickAsync("back"), before, after + 1);
        Assert.Equal(("back", "100%"), (status["podName"]!.GetValue<string>(), status["progress"]!["text"]!.GetValue<string>()));
        Assert.EndsWith("s", status["timeToRun"]!.GetValue<string>(), StringComparison.Ordinal);
        Assert.Equal(["back-a", "back-b"], status["claims"]!.AsArray().Select(c => c!["name"]!.GetValue<string>()));
        await lab.NoHelpersAsync();
        var columns = (await cluster.Kubectl.RunAsync("-n", lab.Name, "get", "vmbgr", "back", "--no-headers")).Split(
            ' ',
            StringSplitOptions.RemoveEmptyEntries
        );
        Assert.Equal(["back", "s", "back", "Ready", "100%", status["timeToRun"]!.GetValue<string>()], columns[..6]);
        var events = await cluster.Kubectl.GetAsync(
            "-n",
            lab.Name,
            "events",
            "--field-selector",
            "involvedObject.name=back,involvedObject.kind=VMBackgroundRestore"
        );
        foreach (var reason in (string[])["DisksOrdered", "DisksRestored", "PodStarting", "RestoreOrdered", "RestoreReady"])
            Assert.Contains(reason, events["items"]!.AsArray().Select(e => e!["reason"]!.GetValue<string>()));

        // The restore can be deleted; the machine stays, and can be captured again.
        await cluster.Kubectl.RunAsync("-n", lab.Name, "delete", "vmbgr", "back", "--timeout=30s");
        await lab.CountsAsync("back");
        await lab.ApplyAsync(Lab.Snapshot("again", "back"));
        await lab.ReadyAsync("again", DiskMachine.Limit);
    }

    [SkippableFact]
    public async Task Five_machines_are_restored_from_one_snapshot_at_the_same_time()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var machine = new DiskMachine(cluster, lab);
        await lab.ClaimAsync();
        await machine.StartAsync();
        var (_, before, after) = await machine.SnapshotAsync("s");
        string[] names = [.. Enumerable.Range(0, 5).Select(i => $"back-{i}")];

        await Task.WhenAll(names.Select(n => machine.ApplyRestoreAsync(n, "s")));
        await Task.WhenAll(names.Select(machine.ReadyAsync));

        await Task.WhenAll(names.Select(n => lab.CountsAsync(n)));
        foreach (var name in names)
            Assert.InRange(await lab.FirstTickAsync(name), before, after + 1);
        await lab.CountsAsync("vm"); // and the first one is unaffected
    }

    [SkippableFact]
    public async Task A_restore_into_a_waiting_pod_writes_its_disks_in_place()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var machine = new DiskMachine(cluster, lab);
        await lab.ClaimAsync();
        await machine.StartAsync();
        var (_, before, after) = await machine.SnapshotAsync("s");
        await machine.RemoveAsync();
        foreach (var disk in (string[])["vm-a", "vm-b"])
            await lab.VolumeAsync(disk + "2", withClaim: true);
        await lab.ApplyAsync(
            DiskMachine
                .Example("vm-pod-disks.yaml")
                .Replace("claimName: vm-a", "claimName: vm-a2", StringComparison.Ordinal)
                .Replace("claimName: vm-b", "claimName: vm-b2", StringComparison.Ordinal)
                .Replace(
                    "        - name: VM_MEMORY",
                    "        - name: VM_INCOMING\n          value: defer\n        - name: VM_MEMORY",
                    StringComparison.Ordinal
                )
        );

        await lab.ApplyAsync(
            """
            apiVersion: bgsnap.io/v1alpha1
            kind: VMBackgroundRestore
            metadata: { name: back }
            spec: { snapshotName: s, target: { pod: { name: vm } } }
            """
        );
        await machine.ReadyAsync("back");

        await lab.CountsAsync("vm");
        Assert.InRange(await lab.FirstTickAsync("vm"), before, after + 1);

        // A second restore into the same QEMU, whose guest now runs: refused, and the guest runs on.
        await lab.ApplyAsync(
            """
            apiVersion: bgsnap.io/v1alpha1
            kind: VMBackgroundRestore
            metadata: { name: once-more }
            spec: { snapshotName: s, target: { pod: { name: vm } } }
            """
        );
        Assert.Contains("vm", await machine.FailedAsync("once-more", "TargetNotWaiting"), StringComparison.Ordinal);
        await lab.CountsAsync("vm");
    }

    [SkippableFact]
    public async Task A_mismatch_fails_with_its_reason_and_leaves_nothing()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var machine = new DiskMachine(cluster, lab);
        var claim = await lab.ClaimAsync();
        await machine.StartAsync();
        var (snapshot, _, _) = await machine.SnapshotAsync("s");
        var directory = Path.Join(claim, snapshot["status"]!["directory"]!.GetValue<string>());

        await machine.ApplyRestoreAsync("small", "s", y => y.Replace("size: 1Gi", "size: 1Mi", StringComparison.Ordinal));
        Assert.Contains(
            "claim small-b of 1Mi is too small for disk vdb, which has 16Mi",
            await machine.FailedAsync("small", "ClaimTooSmall"),
            StringComparison.Ordinal
        );

        // The claim is nominally large enough, but its volume is not.
        await machine.ApplyRestoreAsync("full", "s", tmpfsSize: "256k");
        Assert.Contains("disk vda", await machine.FailedAsync("full", "TargetFull"), StringComparison.Ordinal);

        await machine.ApplyRestoreAsync("other", "s", y =>
            y.Replace(
                "              imagePullPolicy:",
                "              args: [-machine, pc-i440fx-7.1]\n              imagePullPolicy:",
                StringComparison.Ordinal
            )
        );
        Assert.Contains("pc-i440fx-7.1", await machine.FailedAsync("other", "TargetDiffers"), StringComparison.Ordinal);

        await machine.ApplyRestoreAsync("host", "s", y =>
            y.Replace(
                "          restartPolicy: Never\n",
                "          restartPolicy: Never\n          hostPID: true\n",
                StringComparison.Ordinal
            )
        );
        Assert.Contains("spec.hostPID is set", await machine.FailedAsync("host", "TemplateRefused"), StringComparison.Ordinal);

        Damage.Flip(Path.Join(directory, "memory"));
        // Detected before the guest runs, because all RAM is read before that.
        await machine.ApplyRestoreAsync("bad-memory", "s", y =>
            y.Replace("  deadline: 30m\n", "  deadline: 30m\n  mode: Stream\n", StringComparison.Ordinal)
        );
        Assert.Contains("memory", await machine.FailedAsync("bad-memory", "SnapshotCorrupt"), StringComparison.Ordinal);

        Damage.Flip(Path.Join(directory, "disks", "vdb.qcow2"));
        await machine.ApplyRestoreAsync("bad-disk", "s");
        Assert.Contains("vdb.qcow2", await machine.FailedAsync("bad-disk", "SnapshotCorrupt"), StringComparison.Ordinal);

        // The machine itself has not been affected by any of that.
        await lab.CountsAsync("vm");
    }

    [SkippableFact]
    public async Task A_snapshot_that_is_being_restored_stays_until_the_restore_is_deleted_and_that_leaves_nothing()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var machine = new DiskMachine(cluster, lab);
        var claim = await lab.ClaimAsync();
        await machine.StartAsync();
        await machine.SnapshotAsync("s");
        await machine.ApplyRestoreAsync("stuck", "s", y =>
            y.Replace("bgsnap/test-vm:dev", "bgsnap/no-such-vm:dev", StringComparison.Ordinal)
        );
        await machine.UntilAsync("stuck", "waits for its image", r => Lab.Reason(r) == "PodNotStarting");

        await cluster.Kubectl.RunAsync("-n", lab.Name, "delete", "vmbgs", "s", "--wait=false");
        var held = await lab.UntilAsync("s", "held", s => Lab.Reason(s) == "InUseByRestore");
        Assert.Contains("stuck", Lab.Message(held)!, StringComparison.Ordinal);
        await Task.Delay(TimeSpan.FromSeconds(5));
        Assert.NotEmpty(Directory.GetDirectories(claim));

        await cluster.Kubectl.RunAsync("-n", lab.Name, "delete", "vmbgr", "stuck", "--timeout=60s");
        await cluster.Kubectl.GoneAsync(Lab.Soon, "-n", lab.Name, "vmbgs", "s");
        Assert.Empty(Directory.GetDirectories(claim));
        await cluster.Kubectl.GoneAsync(Lab.Soon, "-n", lab.Name, "pods,pvc", "-l", "bgsnap.io/restore-uid");
        await lab.CountsAsync("vm");
    }
}
