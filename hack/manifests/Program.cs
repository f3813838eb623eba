using System.Text.Json.Nodes;
using Bgsnap.Crds.Client;
using Bgsnap.Crds.Schema;
using YamlDotNet.Serialization;

// Writes the CustomResourceDefinitions into each directory that is named: `make manifests`.
if (args.Length == 0)
{
    Console.Error.WriteLine("usage: manifests DIRECTORY...");
    return 2;
}
ISerializer yaml = new SerializerBuilder().WithQuotingNecessaryStrings().DisableAliases().Build();
JsonObject[] definitions = [CrdWriter.Write(Resources.Snapshots), CrdWriter.Write(Resources.Tasks)];
foreach (string directory in args)
    foreach (JsonObject definition in definitions)
    {
        string[] name = definition["metadata"]!["name"]!.GetValue<string>().Split('.', 2);
        File.WriteAllText(
            Path.Combine(directory, $"{name[1]}_{name[0]}.yaml"),
            "# Made by `make manifests` from src/Crds/V1Alpha1. Change it there.\n---\n" + yaml.Serialize(Plain(definition)!));
    }
return 0;

static object? Plain(JsonNode? node) => node switch
{
    JsonObject o => o.ToDictionary(p => p.Key, p => Plain(p.Value)),
    JsonArray a => a.Select(Plain).ToList(),
    JsonValue v when v.TryGetValue(out string? s) => s,
    JsonValue v when v.TryGetValue(out bool b) => b,
    JsonValue v when v.TryGetValue(out long l) => l,
    JsonValue v when v.TryGetValue(out int i) => i,
    _ => null,
};
