using System.Text.Json.Nodes;
using YamlDotNet.RepresentationModel;

namespace Bgsnap.Chart.Tests.Harness;

/// <summary>
/// One case of Cases/values.yaml: a value, set beside others that it needs, and what must be in the output with it and
/// not without it.
/// </summary>
public sealed class ValueCase
{
    private ValueCase(JsonObject json, YamlMappingNode node)
    {
        Value = (string)json["value"]!;
        Set = json["set"];
        With = [];
        foreach ((string path, JsonNode? value) in json["with"] as JsonObject ?? [])
            Pointer.Set(With, path, value);
        Expectations = [.. Expectation.Read((YamlMappingNode)node.Children[new YamlScalarNode("expect")])];
    }

    /// <summary>The value's dotted path.</summary>
    public string Value { get; }

    public JsonNode? Set { get; }

    /// <summary>Other values, in both renderings.</summary>
    public JsonObject With { get; }

    public IReadOnlyList<Expectation> Expectations { get; }

    public JsonObject Values()
    {
        JsonObject values = (JsonObject)With.DeepClone();
        Pointer.Set(values, Value, Set);
        return values;
    }

    /// <summary>All cases, by a title that tells them apart.</summary>
    public static IReadOnlyDictionary<string, ValueCase> All { get; } = Load();

    private static Dictionary<string, ValueCase> Load()
    {
        Dictionary<string, ValueCase> cases = [];
        var list = (YamlSequenceNode)Yaml.Nodes(Repository.Read("tests/Chart.Tests/Cases/values.yaml")).Single();
        foreach (YamlMappingNode node in list.Cast<YamlMappingNode>())
        {
            var json = (JsonObject)Yaml.ToJson(node)!;
            string others = json["with"] is { } with ? $", with {with.ToJsonString()}" : "";
            cases.Add($"{json["value"]} = {json["set"]?.ToJsonString()}{others}", new ValueCase(json, node));
        }
        return cases;
    }
}
