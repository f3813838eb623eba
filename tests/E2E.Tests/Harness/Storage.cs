using System.Globalization;
using System.Text.Json.Nodes;

namespace Bgsnap.E2E.Tests.Harness;

/// <summary>How the storage behaves with VolumeSnapshots.</summary>
public enum StorageMood
{
    /// <summary>Cuts in one step, and finishes in the next.</summary>
    Good,

    /// <summary>Never cuts.</summary>
    Slow,

    /// <summary>Cuts, and never finishes.</summary>
    NeverDone,

    /// <summary>Reports an error.</summary>
    Fails,
}

/// <summary>
/// Plays what the test clusters lack: the CRDs of kubernetes-csi/external-snapshotter, its controller, and a CSI driver. The driver's
/// snapshots are copies of a claim's files; if the guest is stopped, the driver copies during the stop. A claim with a VolumeSnapshot as
/// data source gets a volume with the copy.
/// </summary>
public sealed class Storage : IAsyncDisposable
{
    public const string Driver = "csi.example.org",
        Class = "copies",
        Words = "rpc error: code = ResourceExhausted desc = no snapshots left";

    private const string Group = "snapshot.storage.k8s.io";
    private readonly ClusterFixture _cluster;
    private readonly Lab _lab;
    private readonly CancellationTokenSource _stop = new();
    private Task _works = Task.CompletedTask;

    private Storage(ClusterFixture cluster, Lab lab) => (_cluster, _lab) = (cluster, lab);

    public StorageMood Mood { get; set; }

    private Kubectl Kubectl => _cluster.Kubectl;

    /// <summary>Installs the kinds, creates the class, which is the default one, and starts to work.</summary>
    public static async Task<Storage> InstallAsync(ClusterFixture cluster, Lab lab)
    {
        var storage = new Storage(cluster, lab);
        await cluster.Kubectl.ApplyAsync(
            Definition("VolumeSnapshot", "Namespaced") + "\n---\n" + Definition("VolumeSnapshotClass", "Cluster")
        );
        await cluster.Kubectl.RunAsync(
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            $"crd/volumesnapshots.{Group}",
            $"crd/volumesnapshotclasses.{Group}"
        );
        await cluster.Kubectl.ApplyAsync(
            $$"""
            apiVersion: {{Group}}/v1
            kind: VolumeSnapshotClass
            metadata: { name: {{Class}}, annotations: { snapshot.storage.kubernetes.io/is-default-class: "true" } }
            driver: {{Driver}}
            deletionPolicy: Delete
            """
        );
        storage._works = Task.Run(storage.WorkAsync);
        return storage;
    }

    /// <summary>The VolumeSnapshots of the lab.</summary>
    public async Task<JsonArray> SnapshotsAsync() =>
        (JsonArray)(await Kubectl.GetAsync("-n", _lab.Name, $"volumesnapshots.{Group}"))["items"]!;

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        try
        {
            await _works;
        }
        finally
        {
            _stop.Dispose();
            await Kubectl.RunAsync("delete", "crd", $"volumesnapshots.{Group}", $"volumesnapshotclasses.{Group}", "--timeout=60s");
        }
    }

    private async Task WorkAsync()
    {
        while (!_stop.IsCancellationRequested)
        {
            foreach (var snapshot in await SnapshotsAsync())
                await AdvanceAsync(snapshot!);
            foreach (var claim in (JsonArray)(await Kubectl.GetAsync("-n", _lab.Name, "pvc"))["items"]!)
                await ProvisionAsync(claim!);
            await Task.Delay(100, _stop.Token).ContinueWith(_ => { }, TaskScheduler.Default);
        }
    }

    private async Task AdvanceAsync(JsonNode snapshot)
    {
        var name = snapshot["metadata"]!["name"]!.GetValue<string>();
        var status = snapshot["status"] as JsonObject ?? [];
        var isCut = status["creationTime"] is not null;
        if (
            Mood == StorageMood.Slow
            || status["readyToUse"]?.GetValue<bool>() == true
            || status["error"] is not null
            || (Mood == StorageMood.NeverDone && isCut)
        )
            return;
        if (Mood == StorageMood.Fails)
        {
            (status["error"], status["readyToUse"]) = (new JsonObject { ["message"] = Words }, false);
        }
        else if (!isCut)
        {
            await CopyAsync(
                Path.Join(_lab.Files, snapshot["spec"]!["source"]!["persistentVolumeClaimName"]!.GetValue<string>()),
                Cut(name)
            );
            (status["creationTime"], status["readyToUse"]) = (
                DateTime.UtcNow.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture),
                false
            );
        }
        else
        {
            status["readyToUse"] = true;
        }
        snapshot["status"] = status.DeepClone();
        // If the object is gone or has changed meanwhile, the next pass looks at it again.
        await Kubectl.TryAsync(
            snapshot.ToJsonString(),
            "replace",
            "--raw",
            $"/apis/{Group}/v1/namespaces/{_lab.Name}/volumesnapshots/{name}/status",
            "-f",
            "-"
        );
    }

    private async Task ProvisionAsync(JsonNode claim)
    {
        var name = claim["metadata"]!["name"]!.GetValue<string>();
        if (claim["spec"]!["dataSource"]?["name"]?.GetValue<string>() is not { } source || Directory.Exists(Path.Join(_lab.Files, name)))
            return;
        await CopyAsync(Cut(source), Path.Join(_lab.Files, name));
        await _lab.VolumeAsync(name, withClaim: false);
    }

    private string Cut(string snapshot) => Path.Join(_lab.Files, "cut-" + snapshot);

    // Readable and writable for QEMU's user, as a driver does for fsGroup.
    private static async Task CopyAsync(string from, string to)
    {
        (await Command.RunAsync("cp", ["-rT", "--sparse=always", from, to])).Ok();
        (await Command.RunAsync("chmod", ["-R", "a+rwX", to])).Ok();
    }

    // The part of the real kinds that the tests use, with the status subresource.
    private static string Definition(string kind, string scope) =>
        $$"""
            apiVersion: apiextensions.k8s.io/v1
            kind: CustomResourceDefinition
            metadata:
              name: {{Plural(kind)}}.{{Group}}
              annotations: { api-approved.kubernetes.io: "https://github.com/kubernetes-csi/external-snapshotter/pull/814" }
            spec:
              group: {{Group}}
              scope: {{scope}}
              names: { kind: {{kind}}, plural: {{Plural(kind)}}, singular: {{kind.ToLowerInvariant()}} }
              versions:
                - name: v1
                  served: true
                  storage: true
                  subresources: { status: {} }
                  schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } }
            """;

    private static string Plural(string kind) => kind == "VolumeSnapshot" ? "volumesnapshots" : "volumesnapshotclasses";
}
