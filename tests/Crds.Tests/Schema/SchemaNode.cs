using System.Text.Json.Nodes;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.Schema;

namespace Bgsnap.Crds.Tests.Schema;

/// <summary>One node of a definition's schema, with its path.</summary>
internal sealed record SchemaNode(string Path, JsonObject Json)
{
    internal static IEnumerable<JsonObject> Definitions =>
        [
            CrdWriter.Write(Resources.Snapshots),
            CrdWriter.Write(Resources.Restores),
            CrdWriter.Write(Resources.Schedules),
            CrdWriter.Write(Resources.Tasks),
        ];

    /// <summary>Every node of every definition.</summary>
    internal static IEnumerable<SchemaNode> All => Definitions.SelectMany(d => RootOf(d).WithAllBelow());

    internal static SchemaNode RootOf(JsonObject definition) =>
        new(
            definition["spec"]!["names"]!["kind"]!.GetValue<string>(),
            (JsonObject)definition["spec"]!["versions"]![0]!["schema"]!["openAPIV3Schema"]!
        );

    internal string? Type => Json["type"]?.GetValue<string>();

    internal IEnumerable<(string Rule, string Message)> Rules =>
        (Json["x-kubernetes-validations"] as JsonArray ?? []).Select(r =>
            (r!["rule"]!.GetValue<string>(), r["message"]!.GetValue<string>())
        );

    internal IEnumerable<SchemaNode> Properties =>
        (Json["properties"] as JsonObject ?? []).Select(p => new SchemaNode($"{Path}.{p.Key}", (JsonObject)p.Value!));

    internal IEnumerable<SchemaNode> WithAllBelow()
    {
        yield return this;
        IEnumerable<SchemaNode> below = Json["items"] is JsonObject items
            ? Properties.Append(new SchemaNode(Path + "[]", items))
            : Properties;
        if (Json["additionalProperties"] is JsonObject values)
            below = below.Append(new SchemaNode(Path + "[]", values));
        foreach (SchemaNode node in below.SelectMany(n => n.WithAllBelow()))
            yield return node;
    }

    public override string ToString() => Path;
}
