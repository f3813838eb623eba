using System.Text.Json.Nodes;

namespace Bgsnap.Chart.Tests.Harness;

/// <summary>What a label selector finds.</summary>
public static class Selectors
{
    public static bool Selects(JsonObject selector, JsonObject labels) =>
        selector.Count > 0 && selector.All(s => JsonNode.DeepEquals(s.Value, labels[s.Key]));

    public static void AssertSelectsItsPods(KubernetesObject workload)
    {
        Assert.True(
            Selects((JsonObject)workload["/spec/selector/matchLabels"]!, (JsonObject)workload["/spec/template/metadata/labels"]!),
            $"{workload.Id} does not select its own pods"
        );
        Assert.Equal(
            workload.Kind == "DaemonSet" ? "agent" : "operator",
            (string?)workload["/spec/selector/matchLabels/app.kubernetes.io~1component"]
        );
    }
}
