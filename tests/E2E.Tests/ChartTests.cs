using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using Bgsnap.Chart.Tests.Harness;
using Bgsnap.E2E.Tests.Harness;

namespace Bgsnap.E2E.Tests;

/// <summary>
/// A real API server accepts what the chart renders, for the default and for every other value; the dry run changes nothing.
/// </summary>
[Collection(nameof(RealCluster))]
public sealed class ChartTests(ClusterFixture cluster)
{
    [SkippableFact]
    public async Task Every_rendering_is_accepted()
    {
        cluster.Need();
        JsonNode server = JsonNode.Parse(await cluster.Kubectl.RunAsync("version", "--output=json"))!["serverVersion"]!;
        string version = ((string)server["gitVersion"]!).TrimStart('v');
        bool hasMonitoring = (await cluster.Kubectl.RunAsync("api-versions")).Contains(
            "monitoring.coreos.com/v1",
            StringComparison.Ordinal
        );
        Dictionary<string, JsonObject> renderings = ValueCase.All.ToDictionary(c => c.Key, c => c.Value.Values());
        renderings.Add("the default values", []);
        ConcurrentBag<string> refused = [];
        await Parallel.ForEachAsync(renderings, new ParallelOptions { MaxDegreeOfParallelism = 4 }, async (rendering, _) =>
        {
            // Under separate names, so that nothing collides with the installed objects.
            Rendering objects = ChartRenderer
                .Render(rendering.Value, "--name-template", "trial", "--namespace", "default", "--kube-version", version)
                .Succeeded();
            JsonArray items =
            [
                .. objects
                    .Objects.Values.Where(o => hasMonitoring || !o.ApiVersion.StartsWith("monitoring.", StringComparison.Ordinal))
                    .Select(o => o.Json.DeepClone()),
            ];
            Assert.NotEmpty(items);
            JsonObject list = new()
            {
                ["apiVersion"] = "v1",
                ["kind"] = "List",
                ["items"] = items,
            };
            CommandResult answer = await cluster.Kubectl.TryAsync(
                list.ToJsonString(),
                "apply",
                "--server-side",
                "--force-conflicts",
                "--dry-run=server",
                "--filename",
                "-"
            );
            if (answer.ExitCode != 0)
                refused.Add($"{rendering.Key}: {answer.Error}");
        });
        Assert.True(refused.IsEmpty, string.Join("\n", refused));
    }
}
