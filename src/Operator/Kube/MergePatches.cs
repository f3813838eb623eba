using System.Text.Json.Nodes;

namespace Bgsnap.Operator.Kube;

/// <summary>Merge patches (RFC 7386).</summary>
internal static class MergePatches
{
    /// <summary>The patch that turns one object into another; empty when nothing differs.</summary>
    /// <param name="old">The object as it is.</param>
    /// <param name="next">The object as it should be.</param>
    public static JsonObject Difference(JsonObject old, JsonObject next)
    {
        JsonObject patch = [];
        foreach ((string name, JsonNode? value) in next)
        {
            if (old[name] is JsonObject inner && value is JsonObject changed)
            {
                JsonObject part = Difference(inner, changed);
                if (part.Count > 0)
                    patch[name] = part;
            }
            else if (!JsonNode.DeepEquals(old[name], value))
            {
                patch[name] = value?.DeepClone();
            }
        }
        foreach ((string name, _) in old)
            if (!next.ContainsKey(name))
                patch[name] = null;
        return patch;
    }
}
