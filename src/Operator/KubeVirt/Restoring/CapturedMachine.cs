using System.Text.Json;
using System.Text.Json.Nodes;
using System.Xml;
using System.Xml.Linq;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;

namespace Bgsnap.Operator.KubeVirt.Restoring;

/// <summary>What a snapshot stores of the captured KubeVirt VM.</summary>
/// <param name="Vm">The VirtualMachine; null: the snapshot's source was a VirtualMachineInstance.</param>
/// <param name="Vmi">The VirtualMachineInstance: the result of VM, instance type, preference and hotplugged volumes.</param>
/// <param name="DomainXml">The libvirt domain as XML text.</param>
/// <param name="Domain">The parsed domain.</param>
internal sealed record CapturedMachine(JsonObject? Vm, JsonObject Vmi, string DomainXml, XElement Domain)
{
    /// <summary>Parses the description.</summary>
    /// <exception cref="TerminalException">A capture does not write such a description: it is damaged.</exception>
    public static CapturedMachine Read(MachineDescription kept)
    {
        try
        {
            JsonObject[] items = [.. JsonNode.Parse(kept.Objects ?? "")!["items"]!.AsArray().OfType<JsonObject>()];
            JsonObject vmi = items.FirstOrDefault(i => Is(i, KubeVirtKinds.Instance)) ?? throw Damaged("it has no VirtualMachineInstance");
            string xml = kept.DomainXml ?? "";
            return new CapturedMachine(items.FirstOrDefault(i => Is(i, KubeVirtKinds.Machine)), vmi, xml, XElement.Parse(xml));
        }
        catch (Exception e) when (e is JsonException or XmlException or InvalidOperationException or NullReferenceException)
        {
            throw Damaged(e.Message);
        }
    }

    /// <summary>The machine type that libvirt had chosen, such as <c>pc-q35-rhel9.6.0</c>; null: the domain does not say.</summary>
    public string? MachineType => Domain.Element("os")?.Element("type")?.Attribute("machine")?.Value;

    /// <summary>MAC addresses by the name of the interface.</summary>
    public IReadOnlyDictionary<string, string> MacAddresses()
    {
        XElement[] there = [.. Domain.Element("devices")?.Elements("interface") ?? []];
        Dictionary<string, string> found = [];
        JsonObject[] wanted = [.. (Vmi["spec"]?["domain"]?["devices"]?["interfaces"] as JsonArray ?? []).OfType<JsonObject>()];
        for (int i = 0; i < wanted.Length; i++)
        {
            if (wanted[i]["name"]?.ToString() is not { } name)
                continue;
            // Match by KubeVirt's alias, or else by order.
            XElement? device = Array.Find(there, d => d.Element("alias")?.Attribute("name")?.Value == "ua-" + name)
                ?? there.ElementAtOrDefault(i);
            if (device?.Element("mac")?.Attribute("address")?.Value is { } mac)
                found[name] = mac;
        }
        return found;
    }

    /// <summary>The claims of its volumes, with the name of the volume.</summary>
    public IEnumerable<(string Volume, string Claim)> Claims() =>
        from volume in (Vmi["spec"]?["volumes"] as JsonArray ?? []).OfType<JsonObject>()
        let name = volume["name"]?.ToString()
        // A DataVolume's claim has its name.
        let claim = (volume["persistentVolumeClaim"]?["claimName"] ?? volume["dataVolume"]?["name"])?.ToString()
        where name is not null && claim is not null
        select (name, claim);

    private static bool Is(JsonObject item, string kind) => item["kind"]?.ToString() == kind;

    private static TerminalException Damaged(string why) =>
        new(Reasons.SnapshotCorrupt, $"the snapshot's description of its virtual machine cannot be read: {why}");
}
