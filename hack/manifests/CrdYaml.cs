using System.Text.Json.Nodes;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.Schema;
using YamlDotNet.Serialization;

namespace Bgsnap.Manifests;

/// <summary>The CustomResourceDefinitions as the files of <c>config/crd</c>. The tests compile this file too.</summary>
internal static class CrdYaml
{
    private static readonly ISerializer Yaml = new SerializerBuilder().WithQuotingNecessaryStrings().DisableAliases().Build();

    /// <summary>Name and text of every file.</summary>
    /// <param name="forLegacy">Whether they are for Kubernetes 1.20.</param>
    internal static IEnumerable<(string FileName, string Text)> Files(bool forLegacy = false)
    {
        foreach (
            JsonObject definition in new[]
            {
                CrdWriter.Write(Resources.Snapshots),
                CrdWriter.Write(Resources.Restores),
                CrdWriter.Write(Resources.Schedules),
                CrdWriter.Write(Resources.Tasks),
            }
        )
        {
            if (forLegacy)
                RemoveWhatLegacyLacks(definition);
            string[] name = definition["metadata"]!["name"]!.GetValue<string>().Split('.', 2);
            yield return (
                $"{name[1]}_{name[0]}.yaml",
                "# Made by `make manifests` from src/Crds/V1Alpha1. Change it there.\n---\n" + Yaml.Serialize(Plain(definition)!)
            );
        }
    }

    /// <summary>kubectl rejects rules that the API server 1.20 does not know, and that server takes an empty default for null.</summary>
    private static void RemoveWhatLegacyLacks(JsonNode? node)
    {
        if (node is JsonArray list)
            foreach (JsonNode? item in list)
                RemoveWhatLegacyLacks(item);
        if (node is not JsonObject fields)
            return;
        fields.Remove("x-kubernetes-validations");
        if (fields["default"] is JsonValue value && value.TryGetValue(out string? text) && text.Length == 0)
            fields.Remove("default");
        foreach ((_, JsonNode? field) in fields)
            RemoveWhatLegacyLacks(field);
    }

    private static object? Plain(JsonNode? node) =>
        node switch
        {
            JsonObject o => o.ToDictionary(p => p.Key, p => Plain(p.Value)),
            JsonArray a => a.Select(Plain).ToList(),
            JsonValue v when v.TryGetValue(out string? s) => s,
            JsonValue v when v.TryGetValue(out bool b) => b,
            JsonValue v when v.TryGetValue(out long l) => l,
            JsonValue v when v.TryGetValue(out int i) => i,
            _ => null,
        };
}
