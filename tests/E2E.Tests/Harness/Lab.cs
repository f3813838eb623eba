using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Bgsnap.E2E.Tests.Harness;

/// <summary>A test's own namespace with a claim and VMs, removed afterwards whatever happened.</summary>
public sealed partial class Lab : IAsyncDisposable
{
    /// <summary>Long enough for a busy host; tests that need a short limit set it themselves.</summary>
    public static readonly TimeSpan Soon = TimeSpan.FromSeconds(120);

    /// <summary>The directory of all claims' files, on this host and on the node.</summary>
    public const string Root = "/var/tmp/bgsnap-e2e";

    private static int _number;
    private readonly ClusterFixture _cluster;
    private readonly Kubectl _kubectl;
    private readonly List<string> _volumes = [];
    private readonly List<string> _mounts = [];

    private Lab(ClusterFixture cluster, string name) =>
        (_cluster, _kubectl, Name, Files) = (cluster, cluster.Kubectl, name, Path.Join(Root, name));

    /// <summary>The namespace.</summary>
    public string Name { get; }

    /// <summary>The directory that contains one directory for each claim.</summary>
    public string Files { get; }

    public static async Task<Lab> CreateAsync(ClusterFixture cluster)
    {
        cluster.Need();
        var lab = new Lab(cluster, $"e2e-{Environment.ProcessId}-{Interlocked.Increment(ref _number)}");
        await cluster.Kubectl.RunAsync("create", "namespace", lab.Name);
        return lab;
    }

    /// <summary>Creates a claim on a directory of this host.</summary>
    /// <param name="name">Name of the claim, and of its directory.</param>
    /// <param name="tmpfsSize">A size such as <c>32m</c> that limits the volume; null: no limit.</param>
    public Task<string> ClaimAsync(string name = "snapshots", string? tmpfsSize = null) => VolumeAsync(name, withClaim: true, tmpfsSize);

    /// <summary>Creates a volume on a directory of this host that QEMU's user may write to, and optionally its claim.</summary>
    /// <param name="name">Name of the claim, and of the directory.</param>
    /// <param name="withClaim">True: create the claim too.</param>
    /// <param name="tmpfsSize">A size such as <c>32m</c> that limits the volume; null: no limit.</param>
    public async Task<string> VolumeAsync(string name, bool withClaim, string? tmpfsSize = null)
    {
        var directory = Path.Join(Files, name);
        Directory.CreateDirectory(directory);
        if (tmpfsSize is not null)
        {
            (await Command.RunAsync("mount", ["-t", "tmpfs", "-o", $"size={tmpfsSize}", "tmpfs", directory])).Ok();
            _mounts.Add(directory);
        }
        (await Command.RunAsync("chmod", ["0777", directory])).Ok();
        var volume = $"{Name}-{name}";
        _volumes.Add(volume);
        var claim = $$"""
            apiVersion: v1
            kind: PersistentVolumeClaim
            metadata: { name: {{name}}, namespace: {{Name}} }
            spec:
              accessModes: [ReadWriteMany]
              storageClassName: e2e
              volumeName: {{volume}}
              resources: { requests: { storage: 8Gi } }
            """;
        await _kubectl.ApplyAsync(
            $$"""
            apiVersion: v1
            kind: PersistentVolume
            metadata: { name: {{volume}} }
            spec:
              capacity: { storage: 8Gi }
              accessModes: [ReadWriteOnce, ReadWriteMany]
              persistentVolumeReclaimPolicy: Retain
              storageClassName: e2e
              hostPath: { path: {{directory}} }
              claimRef: { namespace: {{Name}}, name: {{name}} }
            {{(withClaim ? "---\n" + claim : "")}}
            """
        );
        return directory;
    }

    /// <summary>Starts a VM in a pod and waits until its guest counts, or with <paramref name="incoming"/> until the pod runs.</summary>
    /// <param name="name">Name of the pod.</param>
    /// <param name="incoming">True: QEMU waits for a snapshot.</param>
    /// <param name="arguments">Additional QEMU arguments.</param>
    public async Task StartVmAsync(string name = "vm", bool incoming = false, params string[] arguments)
    {
        var yaml = await File.ReadAllTextAsync(Path.Join(Repository.Root, "docs", "examples", "vm-pod.yaml"));
        yaml = yaml.Replace("name: vm\n", $"name: {name}\n", StringComparison.Ordinal);
        if (incoming)
            yaml = yaml.Replace(
                "          value: 256M\n",
                "          value: 256M\n        - name: VM_INCOMING\n          value: defer\n",
                StringComparison.Ordinal
            );
        if (arguments.Length > 0)
            yaml = yaml.Replace(
                "      imagePullPolicy:",
                $"      args: [{string.Join(", ", arguments.Select(a => $"\"{a}\""))}]\n      imagePullPolicy:",
                StringComparison.Ordinal
            );
        await _kubectl.ApplyAsync(yaml, "-n", Name);
        await _kubectl.RunAsync("-n", Name, "wait", "--for=condition=Ready", $"pod/{name}", "--timeout=120s");
        if (!incoming)
            await CountsAsync(name);
    }

    /// <summary>The YAML of a snapshot; additional fields of the spec as YAML at its level.</summary>
    public static string Snapshot(string name, string vm = "vm", string claim = "snapshots", string more = "") =>
        $$"""
            apiVersion: bgsnap.io/v1alpha1
            kind: VMBackgroundSnapshot
            metadata: { name: {{name}} }
            spec:
              source: { apiGroup: "", kind: Pod, name: {{vm}} }
              target: { persistentVolumeClaim: { claimName: {{claim}} } }
            {{string.Join('\n', more.Split('\n').Select(l => "  " + l))}}
            """;

    public Task ApplyAsync(string yaml) => _kubectl.ApplyAsync(yaml, "-n", Name);

    public Task<JsonNode> SnapshotAsync(string name) => _kubectl.GetAsync("-n", Name, "vmbgs", name);

    public Task<JsonNode> UntilAsync(string name, string what, Func<JsonNode, bool> wanted, TimeSpan? limit = null) =>
        _kubectl.UntilAsync(what, wanted, limit ?? Soon, "-n", Name, "vmbgs", name);

    public Task<JsonNode> ReadyAsync(string name, TimeSpan? limit = null) =>
        UntilAsync(
            name,
            "Ready",
            s =>
                Condition(s, "Ready")?["status"]?.GetValue<string>() == "True"
                || (Phase(s) == "Failed" ? throw new InvalidOperationException($"{name} failed:\n{s["status"]}") : false),
            limit
        );

    public Task<JsonNode> FailedAsync(string name, string reason, TimeSpan? limit = null) =>
        UntilAsync(
            name,
            "Failed",
            s =>
                Phase(s) == "Failed"
                && (Reason(s) == reason ? true : throw new InvalidOperationException($"{name} failed with another reason:\n{s["status"]}")),
            limit
        );

    public static string? Phase(JsonNode snapshot) => snapshot["status"]?["phase"]?.GetValue<string>();

    public static JsonNode? Condition(JsonNode snapshot, string type) =>
        (snapshot["status"]?["conditions"] as JsonArray)?.FirstOrDefault(c => c?["type"]?.GetValue<string>() == type);

    public static string? Reason(JsonNode snapshot) => Condition(snapshot, "Ready")?["reason"]?.GetValue<string>();

    public static string? Message(JsonNode snapshot) => Condition(snapshot, "Ready")?["message"]?.GetValue<string>();

    /// <summary>The guest's last tick, and the number of its pages that it found corrupt.</summary>
    public async Task<(long Tick, long Corrupt)> TickAsync(string vm)
    {
        var log = await _kubectl.RunAsync("-n", Name, "logs", vm, "--tail=30");
        var last = TickLine().Matches(log).LastOrDefault() ?? throw new InvalidOperationException($"{vm} does not count:\n{log}");
        return (
            long.Parse(last.Groups[1].ValueSpan, CultureInfo.InvariantCulture),
            long.Parse(last.Groups[2].ValueSpan, CultureInfo.InvariantCulture)
        );
    }

    /// <summary>The first tick in a VM's log.</summary>
    public async Task<long> FirstTickAsync(string vm) =>
        long.Parse(TickLine().Match(await _kubectl.RunAsync("-n", Name, "logs", vm)).Groups[1].ValueSpan, CultureInfo.InvariantCulture);

    /// <summary>Waits until the guest counts on, and asserts that it found nothing corrupt.</summary>
    public async Task<long> CountsAsync(string vm, TimeSpan? limit = null)
    {
        var end = DateTime.UtcNow + (limit ?? Soon);
        long? first = null;
        while (true)
        {
            try
            {
                var (tick, corrupt) = await TickAsync(vm);
                Assert.Equal(0, corrupt);
                first ??= tick;
                if (tick > first)
                    return tick;
            }
            catch (InvalidOperationException) when (DateTime.UtcNow < end)
            {
                // The guest is booting, or its log is briefly unreadable.
            }
            if (DateTime.UtcNow > end)
                throw new TimeoutException($"{vm} does not count on (tick {first})");
            await Task.Delay(250);
        }
    }

    /// <summary>The path on this host of QEMU's socket in a VM pod.</summary>
    public async Task<string> SocketAsync(string vm)
    {
        var uid = (await _kubectl.GetAsync("-n", Name, "pod", vm))["metadata"]!["uid"]!.GetValue<string>();
        // Use a short name: the kernel limits paths of sockets to 107 characters.
        var directory = Path.Join(Files, $"run-of-{vm}");
        Directory.CreateDirectory(Files);
        Directory.CreateSymbolicLink(directory, Path.Join(ClusterFixture.State, $"kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/run"));
        var socket = Path.Join(directory, "qmp.sock");
        for (var end = DateTime.UtcNow + Soon; !File.Exists(socket); await Task.Delay(100))
            Assert.True(DateTime.UtcNow < end, $"{vm} has no {socket}");
        return socket;
    }

    /// <summary>The mappings of QEMU in a VM pod, from /proc/PID/maps.</summary>
    public async Task<string> MapsAsync(string vm) =>
        await File.ReadAllTextAsync($"/proc/{(await Processes.OfPodAsync(_kubectl, Name, vm))[0]}/maps");

    /// <summary>Waits until no task and no carrier is left.</summary>
    public async Task NoHelpersAsync()
    {
        await _kubectl.GoneAsync(Soon, "-n", Name, "snapshottasks");
        await _kubectl.GoneAsync(Soon, "-n", Name, "pods", "-l", "app.kubernetes.io/managed-by=bgsnap");
    }

    public async ValueTask DisposeAsync() => await _cluster.TidyAsync(RemoveAsync);

    private async Task RemoveAsync()
    {
        foreach (var name in (string[])["vmbgr", "vmbgs", "pods"])
            await _kubectl.TryAsync(null, "-n", Name, "delete", name, "--all", "--wait=false", "--grace-period=1");
        await _kubectl.TryAsync(null, "delete", "namespace", Name, "--timeout=170s");
        foreach (var volume in _volumes)
            await _kubectl.TryAsync(null, "delete", "pv", volume, "--timeout=30s");
        foreach (var mount in _mounts)
            await Command.RunAsync("umount", ["-l", mount]);
        if (Directory.Exists(Files))
            Directory.Delete(Files, recursive: true);
    }

    [GeneratedRegex("tick=([0-9]+) .*?corrupt=([0-9]+) ")]
    private static partial Regex TickLine();
}
