using System.Text.Json.Nodes;

namespace Bgsnap.E2E.Tests.Harness;

/// <summary>The machine with two disks from docs/examples in a lab, its snapshots, and their restores as in the example.</summary>
public sealed class DiskMachine(ClusterFixture cluster, Lab lab)
{
    public static readonly TimeSpan Limit = TimeSpan.FromMinutes(3);

    private Kubectl Kubectl => cluster.Kubectl;

    public static string Example(string name) => File.ReadAllText(Path.Join(Repository.Root, "docs", "examples", name));

    /// <summary>Starts the machine on its own claims and waits until its guest counts.</summary>
    public async Task StartAsync()
    {
        foreach (var disk in (string[])["vm-a", "vm-b"])
            await lab.VolumeAsync(disk, withClaim: true);
        await Kubectl.ApplyAsync(Example("vm-pod-disks.yaml"), "-n", lab.Name);
        await lab.CountsAsync("vm");
    }

    /// <summary>Takes a snapshot; returns it with the guest's ticks just before and just after.</summary>
    public async Task<(JsonNode Snapshot, long Before, long After)> SnapshotAsync(string name, string more = "")
    {
        var before = (await lab.TickAsync("vm")).Tick;
        await lab.ApplyAsync(Lab.Snapshot(name, more: more));
        var snapshot = await lab.ReadyAsync(name, Limit);
        return (snapshot, before, await lab.CountsAsync("vm"));
    }

    /// <summary>Removes the machine, its disks and their content.</summary>
    public async Task RemoveAsync()
    {
        await Kubectl.RunAsync("-n", lab.Name, "delete", "pod", "vm", "--timeout=170s");
        await Kubectl.RunAsync("-n", lab.Name, "delete", "pvc", "vm-a", "vm-b", "--timeout=170s");
        foreach (var disk in (string[])["vm-a", "vm-b"])
            Directory.Delete(Path.Join(lab.Files, disk), recursive: true);
    }

    /// <summary>Applies a restore like the example, with volumes for its claims.</summary>
    /// <param name="name">Name of restore, pod and, with -a and -b, claims.</param>
    /// <param name="snapshot">The snapshot to restore.</param>
    /// <param name="change">Changes the example's YAML.</param>
    /// <param name="tmpfsSize">Size of the volumes; null: as large as the machine's disk.</param>
    /// <param name="withVolumes">True: create volumes for the claims; false: the storage does.</param>
    public async Task ApplyRestoreAsync(
        string name,
        string snapshot,
        Func<string, string>? change = null,
        string? tmpfsSize = null,
        bool withVolumes = true
    )
    {
        foreach (var disk in withVolumes ? (string[])["a", "b"] : [])
            await lab.VolumeAsync($"{name}-{disk}", withClaim: false, tmpfsSize);
        var yaml = Example("restore.yaml")
            .Replace("vm-again", name, StringComparison.Ordinal)
            .Replace("vm-0900", snapshot, StringComparison.Ordinal)
            .Replace($"name: {name}-a\n", $"name: {name}-a\n          storageClassName: e2e\n", StringComparison.Ordinal)
            .Replace("          size: 1Gi\n", "          size: 1Gi\n          storageClassName: e2e\n", StringComparison.Ordinal);
        await lab.ApplyAsync(change?.Invoke(yaml) ?? yaml);
    }

    public async Task<JsonNode> UntilAsync(string restore, string what, Func<JsonNode, bool> wanted) =>
        await Kubectl.UntilAsync(what, wanted, Limit, "-n", lab.Name, "vmbgr", restore);

    public Task<JsonNode> ReadyAsync(string restore) =>
        UntilAsync(restore, "Ready", r =>
            Lab.Phase(r) == "Ready"
            || (Lab.Phase(r) == "Failed" ? throw new InvalidDataException($"{restore} failed:\n{r["status"]}") : false)
        );

    /// <summary>Waits until a restore has failed with this reason and has left nothing behind.</summary>
    public async Task<string> FailedAsync(string restore, string reason)
    {
        var failed = await UntilAsync(restore, "Failed", r => Lab.Phase(r) == "Failed");
        Assert.True(Lab.Reason(failed) == reason, $"{restore} failed with another reason:\n{failed["status"]}");
        var uid = failed["metadata"]!["uid"]!.GetValue<string>();
        await Kubectl.GoneAsync(Lab.Soon, "-n", lab.Name, "pods,pvc", "-l", $"bgsnap.io/restore-uid={uid}");
        await lab.NoHelpersAsync();
        return Lab.Message(failed)!;
    }
}
