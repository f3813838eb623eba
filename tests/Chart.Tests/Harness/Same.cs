using System.Text.Json.Nodes;

namespace Bgsnap.Chart.Tests.Harness;

/// <summary>Compares objects of the chart with those of a kustomization.</summary>
public static class Same
{
    // What Helm's objects say of Helm, and what changes with the version.
    private static readonly string[] HelmsLabels = ["helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"];

    public static void Objects(IReadOnlyCollection<KubernetesObject> chart, IReadOnlyCollection<KubernetesObject> kustomization)
    {
        Assert.Equal(chart.Select(o => o.Id).Order(StringComparer.Ordinal), kustomization.Select(o => o.Id).Order(StringComparer.Ordinal));
        foreach (KubernetesObject one in chart)
            Assert.Equal(Text(one), Text(kustomization.Single(o => o.Id == one.Id)));
    }

    private static string Text(KubernetesObject one)
    {
        var json = (JsonObject)Sorted(one.Json)!;
        Unlabel(json["metadata"]!);
        if (Pointer.At(json, "/spec/template/metadata") is { } template)
            Unlabel(template);
        return json.ToJsonString(new() { WriteIndented = true });
    }

    private static void Unlabel(JsonNode metadata)
    {
        foreach (string label in HelmsLabels)
            (metadata["labels"] as JsonObject)?.Remove(label);
    }

    /// <summary>With the keys of every object in order; lists keep theirs.</summary>
    private static JsonNode? Sorted(JsonNode? node) =>
        node switch
        {
            JsonObject map => new JsonObject(
                map.OrderBy(p => p.Key, StringComparer.Ordinal).Select(p => KeyValuePair.Create(p.Key, Sorted(p.Value)))
            ),
            JsonArray list => new JsonArray([.. list.Select(Sorted)]),
            _ => node?.DeepClone(),
        };
}
