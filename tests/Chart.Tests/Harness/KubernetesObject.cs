using System.Text.Json.Nodes;

namespace Bgsnap.Chart.Tests.Harness;

/// <summary>An object as it would be applied.</summary>
public sealed class KubernetesObject(JsonObject json)
{
    public JsonObject Json { get; } = json;

    public string Kind { get; } = (string)json["kind"]!;

    public string ApiVersion { get; } = (string)json["apiVersion"]!;

    public string Name { get; } = (string)json["metadata"]!["name"]!;

    public string? Namespace => (string?)Json["metadata"]!["namespace"];

    /// <summary>Kind/name, which is unique in what bgsnap installs.</summary>
    public string Id => $"{Kind}/{Name}";

    public JsonNode? this[string pointer] => Pointer.At(Json, pointer);

    public JsonObject Labels => Json["metadata"]!["labels"] as JsonObject ?? [];

    /// <summary>The pods it makes, where it makes some.</summary>
    public JsonObject? PodSpec => this["/spec/template/spec"] as JsonObject;

    public static List<KubernetesObject> Parse(string yaml) => [.. Yaml.Documents(yaml).Select(d => new KubernetesObject((JsonObject)d))];
}
