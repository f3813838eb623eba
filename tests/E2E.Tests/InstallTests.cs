using Bgsnap.E2E.Tests.Harness;

namespace Bgsnap.E2E.Tests;

/// <summary>The other tests use the chart. This one installs config/ by kustomize, and a snapshot becomes Ready all the same.</summary>
[Collection(nameof(RealCluster))]
public sealed class InstallTests(ClusterFixture cluster)
{
    [SkippableFact]
    public async Task An_installation_by_kustomize_takes_snapshots()
    {
        cluster.Need();
        Skip.IfNot(cluster.IsOurs, "bgsnap was installed by somebody else");
        await cluster.TidiedAsync();
        await cluster.RemoveChartAsync();
        try
        {
            await cluster.ApplyKustomizationAsync();
            await using var lab = await Lab.CreateAsync(cluster);
            await lab.ClaimAsync();
            await lab.StartVmAsync();
            await lab.ApplyAsync(Lab.Snapshot("kustomized"));
            await lab.ReadyAsync("kustomized");
            await lab.NoHelpersAsync();
            await lab.CountsAsync("vm");
        }
        finally
        {
            await cluster.TidiedAsync();
            await cluster.RemoveKustomizationAsync();
            await cluster.ApplyChartAsync();
        }
    }
}
