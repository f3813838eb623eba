using System.Globalization;
using System.Text.Json.Nodes;

namespace Bgsnap.Chart.Tests.Harness;

/// <summary>JSON pointers (RFC 6901) into objects, and dotted paths of values.</summary>
public static class Pointer
{
    /// <summary>What the pointer leads to, or null where it leads nowhere.</summary>
    public static JsonNode? At(JsonNode? node, string pointer)
    {
        if (pointer is not ['/', ..])
            throw new ArgumentException($"a JSON pointer begins with /: {pointer}");
        foreach (string part in pointer[1..].Split('/'))
        {
            string key = part.Replace("~1", "/", StringComparison.Ordinal).Replace("~0", "~", StringComparison.Ordinal);
            node = node switch
            {
                JsonObject map => map[key],
                JsonArray list when int.Parse(key, CultureInfo.InvariantCulture) is var i && i < list.Count => list[i],
                _ => null,
            };
        }
        return node;
    }

    /// <summary>Sets a value by its dotted path, making the maps on the way.</summary>
    public static void Set(JsonObject values, string path, JsonNode? value)
    {
        string[] parts = path.Split('.');
        foreach (string part in parts[..^1])
        {
            if (values[part] is not JsonObject)
                values[part] = new JsonObject();
            values = (JsonObject)values[part]!;
        }
        values[parts[^1]] = value?.DeepClone();
    }
}
