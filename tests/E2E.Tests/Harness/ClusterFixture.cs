namespace Bgsnap.E2E.Tests.Harness;

/// <summary>All tests of the real cluster share one; they run one after the other.</summary>
[CollectionDefinition(nameof(RealCluster))]
public sealed class RealCluster : ICollectionFixture<ClusterFixture>;

/// <summary>
/// A real single-node cluster with bgsnap installed from its own images by its Helm chart, with default values. For work on the tests,
/// BGSNAP_E2E_KUBECONFIG names a running cluster with everything installed; the fixture does not change it.
/// </summary>
public sealed class ClusterFixture : IAsyncLifetime
{
    private static readonly TimeSpan UpLimit = TimeSpan.FromMinutes(45);
    private static readonly TimeSpan ImagesLimit = TimeSpan.FromMinutes(20);

    private readonly List<Task> _tidying = [];

    public const string Namespace = "bgsnap-system";

    /// <summary>The directory where hack/cluster keeps the cluster's files.</summary>
    public static string State => Environment.GetEnvironmentVariable("CLUSTER") ?? "/var/tmp/bgsnap-cluster";

    public Kubectl Kubectl { get; private set; } = null!;

    public Helm Helm => new(Kubectl.Kubeconfig);

    /// <summary>Whether the tests may change the cluster and the installation.</summary>
    public bool IsOurs { get; private set; }

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
        IsOurs = true;
        await ScriptAsync("hack/cluster", UpLimit, "up");
        // This file tells the Makefile that the cluster belongs to the tests, in case they are killed.
        await File.WriteAllTextAsync(Path.Join(State, "of-the-tests"), "");
        Kubectl = new Kubectl(Path.Join(State, "pki", "admin.kubeconfig"));
        await LoadImagesAsync("agent", "operator", "test-vm");
        await ScriptAsync(
            "hack/cluster",
            UpLimit,
            ["crds", .. Directory.GetFiles(Path.Join(Repository.Root, "config", "crd"), "bgsnap.io_*.yaml")]
        );
        await Kubectl.RunAsync("create", "namespace", Namespace);
        await ApplyChartAsync();
    }

    public async Task DisposeAsync()
    {
        if (!IsOurs)
            return;
        try
        {
            await TidiedAsync();
        }
        finally
        {
            await ScriptAsync("hack/cluster", TimeSpan.FromMinutes(3), "down");
        }
    }

    /// <summary>Builds our images where they are out of date, and loads them into the cluster's node.</summary>
    public static async Task LoadImagesAsync(params string[] images)
    {
        await ScriptAsync("hack/images", ImagesLimit, images);
        await ScriptAsync(
            "hack/cluster",
            UpLimit,
            ["load-image", .. images.Select(i => Path.Join(Repository.Root, "out", "images", $"{i}.tar"))]
        );
    }

    /// <summary>Skips the test where no cluster is possible.</summary>
    public void Need() => Skip.If(Missing is not null, Missing);

    /// <summary>A cluster that somebody else started and installed; the fixture does not change it.</summary>
    public static ClusterFixture Of(Kubectl kubectl) => new() { Kubectl = kubectl };

    /// <summary>Waits until operator and agent are ready.</summary>
    public async Task InstalledAsync()
    {
        await Kubectl.RunAsync("-n", Namespace, "rollout", "status", "deployment/bgsnap-operator", "--timeout=120s");
        await Kubectl.RunAsync("-n", Namespace, "rollout", "status", "daemonset/bgsnap-agent", "--timeout=120s");
    }

    /// <summary>
    /// Removes what a test has left. On our own cluster this continues while the next test begins, because deleting a namespace takes a
    /// while.
    /// </summary>
    public async Task TidyAsync(Func<Task> remove)
    {
        var removing = remove();
        if (IsOurs)
            lock (_tidying)
                _tidying.Add(removing);
        else
            await removing;
    }

    /// <summary>Waits until nothing of earlier tests is left; for tests that kill the operator, the agent or the API server.</summary>
    public async Task TidiedAsync()
    {
        Task[] all;
        lock (_tidying)
        {
            all = [.. _tidying];
            _tidying.Clear();
        }
        await Task.WhenAll(all);
    }

    /// <summary>Installs the chart with its default values, or resets the installation to them, and waits until it works.</summary>
    public async Task ApplyChartAsync()
    {
        await Helm.UpgradeAsync();
        await InstalledAsync();
    }

    /// <summary>Removes what <see cref="ApplyChartAsync"/> installed; Helm leaves the definitions.</summary>
    public Task RemoveChartAsync() => Helm.RunAsync("uninstall", "--wait", "--timeout=3m");

    /// <summary>
    /// Installs config/ directory by directory, as `kubectl apply -k config/legacy` does, for which this kubectl is too old.
    /// </summary>
    public async Task ApplyKustomizationAsync()
    {
        foreach (var directory in Kustomizations)
            await Kubectl.RunAsync("apply", "-k", directory);
        await InstalledAsync();
    }

    /// <summary>Removes what <see cref="ApplyKustomizationAsync"/> installed, except the namespace, which others use.</summary>
    public async Task RemoveKustomizationAsync()
    {
        foreach (var directory in Kustomizations.Reverse())
        {
            var objects = await Kubectl.RunAsync("kustomize", directory);
            var without = objects.Split("\n---\n").Where(o => !o.Contains("kind: Namespace\n", StringComparison.Ordinal));
            (await Kubectl.TryAsync(string.Join("\n---\n", without), "delete", "--ignore-not-found", "-f", "-")).Ok();
        }
    }

    private static string[] Kustomizations => [.. ((string[])["rbac", "manager"]).Select(d => Path.Join(Repository.Root, "config", d))];

    public Task<string> LogsAsync(string component) =>
        Kubectl.RunAsync("-n", Namespace, "logs", "-l", $"app.kubernetes.io/component={component}", "--tail=200", "--prefix");

    public static async Task ScriptAsync(string script, TimeSpan limit, params string[] arguments) =>
        (await Command.RunAsync(Path.Join(Repository.Root, script), arguments, null, limit)).Ok();
}
