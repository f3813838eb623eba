using System.Text.Json.Nodes;
using YamlDotNet.RepresentationModel;

namespace Bgsnap.Chart.Tests.Harness;

/// <summary>
/// Something to be found in the objects. In YAML, by the object's Kind/name (or * for all):
/// <code>
/// Deployment/x: !present        the object is there; !absent: it is not
/// Deployment/x:
///   /spec/replicas: 2           what a JSON pointer leads to
///   /spec/args: !contains -v    a list, or text, that holds this
///   /spec/args: !lacks -v       … that does not hold this
///   /spec/affinity: !present    anything; !absent: nothing
/// </code>
/// </summary>
public sealed record Expectation(string Object, string? Pointer, string Relation, JsonNode? Value)
{
    public static IEnumerable<Expectation> Read(YamlMappingNode expect)
    {
        foreach ((YamlNode name, YamlNode what) in expect)
        {
            string id = ((YamlScalarNode)name).Value!;
            if (what is not YamlMappingNode pointers)
            {
                yield return new(id, null, TagOf(what), null);
                continue;
            }
            foreach ((YamlNode pointer, YamlNode value) in pointers)
                yield return new(id, ((YamlScalarNode)pointer).Value!, TagOf(value), Yaml.ToJson(value));
        }
    }

    /// <summary>Whether the objects are as expected.</summary>
    public bool HoldsIn(Rendering rendering)
    {
        if (Pointer is null)
            return rendering.Objects.ContainsKey(Object) == (Relation == "present");
        KubernetesObject[] objects =
            Object == "*" ? [.. rendering.Objects.Values]
            : rendering.Objects.TryGetValue(Object, out KubernetesObject? one) ? [one]
            : [];
        return objects.Length > 0 && objects.All(o => HoldsAt(o[Pointer]));
    }

    public override string ToString() => $"{Object} {Pointer} {Relation} {Value?.ToJsonString()}";

    private bool HoldsAt(JsonNode? found) =>
        Relation switch
        {
            "present" => found is not null,
            "absent" => found is null,
            "contains" => Contains(found),
            "lacks" => found is not null && !Contains(found),
            "equals" => JsonNode.DeepEquals(found, Value),
            _ => throw new InvalidOperationException($"unknown expectation !{Relation}"),
        };

    private bool Contains(JsonNode? found) =>
        found switch
        {
            JsonArray list => list.Any(item => JsonNode.DeepEquals(item, Value)),
            JsonValue text => text.ToString().Contains(Value!.ToString(), StringComparison.Ordinal),
            _ => false,
        };

    private static string TagOf(YamlNode node) => node.Tag is { IsEmpty: false, Value: ['!', not '!', ..] tag } ? tag[1..] : "equals";
}
