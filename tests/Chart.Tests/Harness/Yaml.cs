using System.Globalization;
using System.Text.Json.Nodes;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace Bgsnap.Chart.Tests.Harness;

/// <summary>YAML as the JSON that an API server makes of it. A key that comes twice is an error.</summary>
public static class Yaml
{
    /// <summary>All documents but the empty ones.</summary>
    public static List<JsonNode> Documents(string text)
    {
        List<JsonNode> documents = [];
        foreach (YamlNode root in Nodes(text))
        {
            if (ToJson(root) is { } json)
                documents.Add(json);
        }
        return documents;
    }

    /// <summary>The documents as YAML nodes, for what JSON does not show (tags).</summary>
    public static IEnumerable<YamlNode> Nodes(string text)
    {
        YamlStream stream = new();
        stream.Load(new StringReader(text));
        return stream.Documents.Select(d => d.RootNode);
    }

    public static JsonNode? ToJson(YamlNode node) =>
        node switch
        {
            YamlMappingNode map => Object(map),
            YamlSequenceNode list => new JsonArray([.. list.Select(ToJson)]),
            YamlScalarNode { Style: ScalarStyle.Plain } scalar => Plain(scalar.Value ?? ""),
            YamlScalarNode scalar => JsonValue.Create(scalar.Value),
            _ => throw new InvalidOperationException($"no JSON for {node.NodeType}"),
        };

    private static JsonObject Object(YamlMappingNode map)
    {
        JsonObject json = [];
        foreach ((YamlNode key, YamlNode value) in map)
            json.Add(((YamlScalarNode)key).Value!, ToJson(value));
        return json;
    }

    private static JsonValue? Plain(string text) =>
        text switch
        {
            "" or "~" or "null" => null,
            "true" => JsonValue.Create(true),
            "false" => JsonValue.Create(false),
            // Kubernetes' YAML 1.1 takes these for booleans; who means one of them must say which by quotes.
            "yes" or "no" or "on" or "off" or "y" or "n" => throw new InvalidOperationException(
                $"the plain word {text} is a boolean to Kubernetes"
            ),
            _ when long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long whole) => JsonValue.Create(
                whole
            ),
            _ when double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double number)
                    && char.IsAsciiDigit(text[^1]) => JsonValue.Create(number),
            _ => JsonValue.Create(text),
        };
}
