namespace Bgsnap.E2E.Tests.Harness;

/// <summary>All tests of the real cluster share one; they run one after the other.</summary>
[CollectionDefinition(nameof(RealCluster))]
public sealed class RealCluster : ICollectionFixture<ClusterFixture>;

/// <summary>
/// A real single-node cluster with bgsnap installed from its own images and manifests. BGSNAP_E2E_KUBECONFIG names a cluster
/// that is up with everything installed, for working at the tests; it is left as it is.
/// </summary>
public sealed class ClusterFixture : IAsyncLifetime
{
    private static readonly TimeSpan UpLimit = TimeSpan.FromMinutes(45);
    private static readonly TimeSpan ImagesLimit = TimeSpan.FromMinutes(20);
    private bool _ours;

    public const string Namespace = "bgsnap-system";

    /// <summary>Where hack/cluster keeps the cluster's files.</summary>
    public static string State => Environment.GetEnvironmentVariable("CLUSTER") ?? "/var/tmp/bgsnap-cluster";

    public Kubectl Kubectl { get; private set; } = null!;

    /// <summary>Why there is no cluster, or null.</summary>
    public string? Missing { get; private set; }

    public async Task InitializeAsync()
    {
        if (Environment.GetEnvironmentVariable("BGSNAP_E2E_KUBECONFIG") is { Length: > 0 } given)
        {
            Kubectl = new Kubectl(given);
            return;
        }
        if (Environment.UserName != "root")
        {
            Missing = "a cluster needs root";
            return;
        }
        _ours = true;
        await ScriptAsync("hack/cluster", UpLimit, "up");
        Kubectl = new Kubectl(Path.Join(State, "pki", "admin.kubeconfig"));
        await ScriptAsync("hack/images", ImagesLimit);
        await ScriptAsync("hack/cluster", UpLimit, ["load-image", .. Directory.GetFiles(Path.Join(Repository.Root, "out", "images"), "*.tar")]);
        await ScriptAsync("hack/cluster", UpLimit, ["crds", .. Directory.GetFiles(Path.Join(Repository.Root, "config", "crd"), "bgsnap.io_*.yaml")]);
        foreach (var directory in (string[])["rbac", "manager"])
            await Kubectl.RunAsync("apply", "-k", Path.Join(Repository.Root, "config", directory));
        await InstalledAsync();
    }

    public async Task DisposeAsync()
    {
        if (_ours)
            await ScriptAsync("hack/cluster", TimeSpan.FromMinutes(3), "down");
    }

    /// <summary>Skips where there can be no cluster.</summary>
    public void Need() => Skip.If(Missing is not null, Missing);

    /// <summary>A cluster that another started and installs; it is left as it is.</summary>
    public static ClusterFixture Of(Kubectl kubectl) => new() { Kubectl = kubectl };

    /// <summary>Waits until operator and agent are ready.</summary>
    public async Task InstalledAsync()
    {
        await Kubectl.RunAsync("-n", Namespace, "rollout", "status", "deployment/bgsnap-operator", "--timeout=120s");
        await Kubectl.RunAsync("-n", Namespace, "rollout", "status", "daemonset/bgsnap-agent", "--timeout=120s");
    }

    public Task<string> LogsAsync(string component) =>
        Kubectl.RunAsync("-n", Namespace, "logs", "-l", $"app.kubernetes.io/component={component}", "--tail=200", "--prefix");

    public static async Task ScriptAsync(string script, TimeSpan limit, params string[] arguments) =>
        (await Command.RunAsync(Path.Join(Repository.Root, script), arguments, null, limit)).Ok();
}
