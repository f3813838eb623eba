using System.Text.Json.Nodes;
using Bgsnap.E2E.Tests.Harness;

namespace Bgsnap.E2E.Tests;

/// <summary>The main path: apply, Ready, sound files, and a restored guest that runs.</summary>
[Collection(nameof(RealCluster))]
public sealed class SnapshotTests(ClusterFixture cluster)
{
    [SkippableFact]
    public async Task An_applied_snapshot_becomes_Ready_and_its_guest_continues_to_count_elsewhere()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var claim = await lab.ClaimAsync();
        await lab.StartVmAsync();
        var before = (await lab.TickAsync("vm")).Tick;

        await lab.ApplyAsync(Lab.Snapshot("one"));
        await cluster.Kubectl.RunAsync("-n", lab.Name, "wait", "--for=condition=Ready", "vmbgs/one", "--timeout=120s");

        var snapshot = await lab.SnapshotAsync("one");
        var status = snapshot["status"]!;
        var after = (await lab.TickAsync("vm")).Tick;
        var directory = Path.Join(claim, status["directory"]!.GetValue<string>());
        (await Command.RunAsync(Repository.Agent, ["verify", directory])).Ok();
        Assert.Equal("Ready", status["phase"]!.GetValue<string>());
        Assert.Equal("Agent", status["engine"]!.GetValue<string>());
        Assert.Equal("100%", status["progress"]!["text"]!.GetValue<string>());
        Assert.Equal(snapshot["metadata"]!["generation"]!.GetValue<long>(), status["observedGeneration"]!.GetValue<long>());
        foreach (
            var (type, value) in (ReadOnlySpan<(string, string)>)
                [("Ready", "True"), ("Reconciling", "False"), ("Stalled", "False"), ("PointInTime", "True")]
        )
            Assert.Equal(value, Lab.Condition(snapshot, type)!["status"]!.GetValue<string>());
        Assert.True(status["ramBytes"]!.GetValue<long>() >= 256L << 20);
        Assert.InRange(status["storedBytes"]!.GetValue<long>(), 64L << 20, 512L << 20);
        var manifest = await File.ReadAllBytesAsync(Path.Join(directory, "snapshot.json"));
        Assert.Equal(
            "sha256:" + Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(manifest)),
            status["manifestChecksum"]!.GetValue<string>()
        );
        Assert.EndsWith("s", status["downtime"]!.GetValue<string>(), StringComparison.Ordinal);
        await lab.NoHelpersAsync();
        await lab.CountsAsync("vm");

        // The events report each step.
        var reasons = await EventReasonsAsync(lab, "one");
        foreach (var reason in (string[])["PointInTime", "SnapshotReady"])
            Assert.Contains(reason, reasons);

        // The captured guest continues in another QEMU.
        await lab.StartVmAsync("restored", incoming: true);
        (await Command.RunAsync(Repository.Agent, ["restore", directory, "--qmp", await lab.SocketAsync("restored")])).Ok();
        await lab.CountsAsync("restored");
        Assert.InRange(await lab.FirstTickAsync("restored"), before, after + 1);
    }

    // For a memfd the agent reads QEMU's mappings, and needs another capability than for anonymous memory.
    [SkippableFact]
    public async Task A_machine_on_a_shared_memfd_is_captured_and_restored()
    {
        string[] memfd = ["-object", "memory-backend-memfd,id=ram,size=256M,share=on", "-machine", "memory-backend=ram"];
        await using var lab = await Lab.CreateAsync(cluster);
        var claim = await lab.ClaimAsync();
        await lab.StartVmAsync("vm", false, memfd);
        var before = (await lab.TickAsync("vm")).Tick;

        await lab.ApplyAsync(Lab.Snapshot("shared"));
        var snapshot = await lab.ReadyAsync("shared");

        var after = await lab.CountsAsync("vm");
        var directory = Path.Join(claim, snapshot["status"]!["directory"]!.GetValue<string>());
        (await Command.RunAsync(Repository.Agent, ["verify", directory])).Ok();
        Assert.Equal("Agent", snapshot["status"]!["engine"]!.GetValue<string>());
        // It really was shared memory, and QEMU still maps it.
        Assert.Contains("memfd:memory-backend-memfd (deleted)", await lab.MapsAsync("vm"), StringComparison.Ordinal);

        await lab.StartVmAsync("restored", true, memfd);
        (await Command.RunAsync(Repository.Agent, ["restore", directory, "--qmp", await lab.SocketAsync("restored")])).Ok();
        await lab.CountsAsync("restored");
        Assert.InRange(await lab.FirstTickAsync("restored"), before, after + 1);
    }

    [SkippableFact]
    public async Task A_claim_template_becomes_a_claim_that_can_hold_the_machine()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        await lab.StartVmAsync();
        await lab.ApplyAsync(
            Lab.Snapshot("made")
                .Replace(
                    "persistentVolumeClaim: { claimName: snapshots }",
                    "claimTemplate: { storageClassName: e2e }",
                    StringComparison.Ordinal
                )
        );

        var claim = await cluster.Kubectl.UntilAsync("claim", _ => true, Lab.Soon, "-n", lab.Name, "pvc", "made");

        // 512 Mi is the container's memory limit; 1 % and 64 Mi for the rest.
        Assert.Equal("582Mi", claim["spec"]!["resources"]!["requests"]!["storage"]!.GetValue<string>());
        Assert.Equal("e2e", claim["spec"]!["storageClassName"]!.GetValue<string>());
        await cluster.Kubectl.ApplyAsync(
            $$"""
            apiVersion: v1
            kind: PersistentVolume
            metadata: { name: {{lab.Name}}-made }
            spec:
              capacity: { storage: 1Gi }
              accessModes: [ReadWriteOnce]
              storageClassName: e2e
              hostPath: { path: {{lab.Files}}/made, type: DirectoryOrCreate }
              claimRef: { namespace: {{lab.Name}}, name: made }
            """
        );
        await lab.ReadyAsync("made");

        await cluster.Kubectl.RunAsync("-n", lab.Name, "delete", "vmbgs", "made", "--timeout=120s");
        await cluster.Kubectl.GoneAsync(Lab.Soon, "-n", lab.Name, "pvc", "made");
        await cluster.Kubectl.RunAsync("delete", "pv", $"{lab.Name}-made", "--timeout=30s");
    }

    [SkippableFact]
    public async Task Ten_snapshots_of_three_machines_at_once_all_become_Ready_one_at_a_time()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        await lab.ClaimAsync();
        string[] vms = ["a", "b", "c"];
        await Task.WhenAll(vms.Select(v => lab.StartVmAsync(v)));
        await lab.ApplyAsync(string.Join("\n---\n", Enumerable.Range(0, 10).Select(i => Lab.Snapshot($"s{i}", vms[i % 3]))));

        var most = 0;
        var end = DateTime.UtcNow + TimeSpan.FromMinutes(10);
        while (true)
        {
            var tasks = (JsonArray)(await cluster.Kubectl.GetAsync("-n", lab.Name, "snapshottasks"))["items"]!;
            most = Math.Max(most, tasks.Count(t => t!["status"]?["phase"]?.GetValue<string>() == "Running"));
            var snapshots = (JsonArray)(await cluster.Kubectl.GetAsync("-n", lab.Name, "vmbgs"))["items"]!;
            if (snapshots.All(s => Lab.Phase(s!) == "Ready"))
                break;
            Assert.DoesNotContain(snapshots, s => Lab.Phase(s!) == "Failed");
            Assert.True(DateTime.UtcNow < end, snapshots.ToJsonString());
            await Task.Delay(200);
        }
        Assert.Equal(1, most);
        foreach (var vm in vms)
            await lab.CountsAsync(vm);
        await lab.NoHelpersAsync();
    }

    [SkippableFact]
    public async Task Deleting_a_snapshot_removes_or_keeps_its_files_as_its_policy_says()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var claim = await lab.ClaimAsync();
        await lab.StartVmAsync();
        await lab.ApplyAsync(Lab.Snapshot("away") + "\n---\n" + Lab.Snapshot("kept", more: "deletionPolicy: Retain"));
        await lab.ReadyAsync("away");
        await lab.ReadyAsync("kept");
        Assert.Equal(2, Directory.GetDirectories(claim).Length);

        await cluster.Kubectl.RunAsync("-n", lab.Name, "delete", "vmbgs", "--all", "--timeout=120s");

        Assert.StartsWith("kept-", Path.GetFileName(Assert.Single(Directory.GetFileSystemEntries(claim))), StringComparison.Ordinal);
        await lab.NoHelpersAsync();
        await lab.CountsAsync("vm");
    }

    [SkippableFact]
    public async Task A_second_manager_and_a_second_apply_change_nothing()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        await lab.ClaimAsync();
        await lab.StartVmAsync();
        await lab.ApplyAsync(Lab.Snapshot("stable"));
        await lab.ReadyAsync("stable");
        await lab.NoHelpersAsync();
        var version = await VersionAsync(lab);

        await lab.ApplyAsync(Lab.Snapshot("stable"));
        Assert.Equal(version, await VersionAsync(lab));
        (
            await cluster.Kubectl.TryAsync(
                Lab.Snapshot("stable"),
                "-n",
                lab.Name,
                "apply",
                "--server-side",
                "--field-manager=gitops",
                "-f",
                "-"
            )
        ).Ok();
        var claimed = await VersionAsync(lab);
        (
            await cluster.Kubectl.TryAsync(
                Lab.Snapshot("stable"),
                "-n",
                lab.Name,
                "apply",
                "--server-side",
                "--field-manager=gitops",
                "-f",
                "-"
            )
        ).Ok();
        await Task.Delay(3000);
        Assert.Equal(claimed, await VersionAsync(lab));
        Assert.Equal("Ready", Lab.Phase(await lab.SnapshotAsync("stable")));
    }

    private static async Task<string> VersionAsync(Lab lab) =>
        (await lab.SnapshotAsync("stable"))["metadata"]!["resourceVersion"]!.GetValue<string>();

    private async Task<List<string>> EventReasonsAsync(Lab lab, string name)
    {
        var events = (JsonArray)
            (await cluster.Kubectl.GetAsync("-n", lab.Name, "events", "--field-selector", $"involvedObject.name={name}"))["items"]!;
        return [.. events.Select(e => e!["reason"]!.GetValue<string>())];
    }
}
