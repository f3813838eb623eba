using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using Bgsnap.Chart.Tests.Harness;

namespace Bgsnap.Chart.Tests;

/// <summary>
/// A real API server takes what is rendered, for default and for every other value. BGSNAP_E2E_KUBECONFIG names the cluster;
/// nothing is changed there.
/// </summary>
public sealed class ApiServerTests
{
    private static readonly string? Kubeconfig = Environment.GetEnvironmentVariable("BGSNAP_E2E_KUBECONFIG") is { Length: > 0 } file ? file : null;

    [SkippableFact]
    public void Every_rendering_is_accepted()
    {
        Skip.If(Kubeconfig is null, "BGSNAP_E2E_KUBECONFIG names no cluster");
        JsonNode server = JsonNode.Parse(Kubectl("version", "--output=json").Succeeded().Output)!["serverVersion"]!;
        string version = ((string)server["gitVersion"]!).TrimStart('v');
        bool hasMonitoring = Kubectl("api-versions").Succeeded().Output.Contains("monitoring.coreos.com/v1", StringComparison.Ordinal);
        Dictionary<string, JsonObject> renderings = ValueCase.All.ToDictionary(c => c.Key, c => c.Value.Values());
        renderings.Add("the default values", []);
        ConcurrentBag<string> refused = [];
        Parallel.ForEach(renderings, new ParallelOptions { MaxDegreeOfParallelism = 4 }, rendering =>
        {
            // Under names of their own, so that nothing meets what is installed there.
            Rendering objects = ChartRenderer.Render(rendering.Value, "--release", "trial", "--namespace", "default", "--kube-version", version).Succeeded();
            JsonArray items = [.. objects.Objects.Values.Where(o => hasMonitoring || !o.ApiVersion.StartsWith("monitoring.", StringComparison.Ordinal)).Select(o => o.Json.DeepClone())];
            Rendering answer = DryRun(new JsonObject { ["apiVersion"] = "v1", ["kind"] = "List", ["items"] = items });
            if (answer.ExitCode != 0)
                refused.Add($"{rendering.Key}: {answer.Error}");
        });
        Assert.True(refused.IsEmpty, string.Join("\n", refused));
    }

    private static Rendering DryRun(JsonObject list)
    {
        string file = Path.GetTempFileName();
        try
        {
            File.WriteAllText(file, list.ToJsonString());
            return Kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--filename", file);
        }
        finally
        {
            File.Delete(file);
        }
    }

    private static Rendering Kubectl(params string[] arguments) => Programs.Run("kubectl", [$"--kubeconfig={Kubeconfig}", .. arguments]);
}
