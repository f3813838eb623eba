using Bgsnap.E2E.Tests.Harness;

namespace Bgsnap.E2E.Tests;

/// <summary>The life of a Helm installation: upgraded, rolled back, removed and installed again. Snapshots outlive it.</summary>
[Collection(nameof(RealCluster))]
public sealed class HelmTests(ClusterFixture cluster)
{
    [SkippableFact]
    public async Task An_installation_is_upgraded_rolled_back_and_removed_and_its_snapshots_stay()
    {
        cluster.Need();
        Skip.IfNot(cluster.IsOurs, "bgsnap was installed by somebody else");
        await cluster.TidiedAsync();
        await using var lab = await Lab.CreateAsync(cluster);
        try
        {
            var claim = await lab.ClaimAsync();
            await lab.StartVmAsync();
            var files = Path.Join(claim, await TakenAsync(lab, "installed"));
            var first = await cluster.Helm.RunAsync("get manifest");

            var notes = await cluster.Helm.UpgradeAsync("operator.logLevel=Debug", "agent.logLevel=Debug");
            Assert.Contains("kubectl apply --server-side -f crds/", notes, StringComparison.Ordinal);
            Assert.Equal(["--log-level=Debug", "--log-level=Debug"], await LogLevelsAsync());
            await TakenAsync(lab, "upgraded");

            await cluster.Helm.RunAsync("rollback", "--wait", "--timeout=3m");
            Assert.Equal(["--log-level=Information", "--log-level=Information"], await LogLevelsAsync());
            Assert.Equal(first, await cluster.Helm.RunAsync("get manifest"));
            await TakenAsync(lab, "rolled-back");
            await lab.NoHelpersAsync();

            await cluster.RemoveChartAsync();
            Assert.Equal("", (await cluster.Kubectl.TryAsync(first, "get", "--ignore-not-found", "-o", "name", "-f", "-")).Ok());
            foreach (var name in (string[])["installed", "upgraded", "rolled-back"])
                await lab.ReadyAsync(name);
            await lab.CountsAsync("vm");

            // The next installation handles what the last one left: the finalizer, and with it the files.
            await cluster.ApplyChartAsync();
            Assert.True(Directory.Exists(files));
            await cluster.Kubectl.RunAsync("-n", lab.Name, "delete", "vmbgs", "installed", "--timeout=60s");
            Assert.False(Directory.Exists(files));
        }
        finally
        {
            await cluster.ApplyChartAsync();
        }
    }

    /// <summary>Takes a snapshot; returns the directory of its files on the claim.</summary>
    private static async Task<string> TakenAsync(Lab lab, string name)
    {
        await lab.ApplyAsync(Lab.Snapshot(name));
        return (await lab.ReadyAsync(name))["status"]!["directory"]!.GetValue<string>();
    }

    /// <summary>The log levels with which the pods of operator and agent run.</summary>
    private async Task<IEnumerable<string>> LogLevelsAsync()
    {
        var pods = await cluster.Kubectl.GetAsync("-n", ClusterFixture.Namespace, "pods", "--field-selector=status.phase=Running");
        return pods["items"]!
            .AsArray()
            .Where(pod => pod!["metadata"]!["deletionTimestamp"] is null)
            .SelectMany(pod => pod!["spec"]!["containers"]![0]!["args"]!.AsArray())
            .Select(argument => argument!.GetValue<string>())
            .Where(argument => argument.StartsWith("--log-level=", StringComparison.Ordinal));
    }
}
