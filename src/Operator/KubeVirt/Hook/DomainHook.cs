using System.Xml;
using System.Xml.Linq;

namespace Bgsnap.Operator.KubeVirt.Hook;

/// <summary>
/// Changes the domain that KubeVirt is about to start: its QEMU waits for a snapshot and is the same machine as the captured one, with its
/// machine type, its CPU, and every device at its address.
/// </summary>
/// <remarks>
/// libvirt assigns addresses in the order of the devices in the XML, and KubeVirt changes that order between versions; a guest loses a disk
/// that suddenly sits behind another bridge. Devices that only one of the two machines has stay as KubeVirt defined them: the agent
/// compares both machines when QEMU waits, and refuses with the list of differences.
/// </remarks>
internal static class DomainHook
{
    private static readonly XNamespace Qemu = "http://libvirt.org/schemas/domain/qemu/1.0";

    /// <summary>Elements under <c>devices</c> that have no place on a bus.</summary>
    private static readonly string[] Unplaced = ["emulator", "graphics", "audio"];

    /// <summary>Applies the captured machine to the domain.</summary>
    /// <param name="domainXml">The domain that KubeVirt defines.</param>
    /// <param name="capturedXml">The captured domain, stored in the snapshot.</param>
    /// <exception cref="XmlException">One of them is not XML.</exception>
    public static string Apply(string domainXml, string capturedXml)
    {
        XElement domain = XElement.Parse(domainXml),
            captured = XElement.Parse(capturedXml);
        PinMachine(domain, captured);
        if (domain.Element("devices") is { } devices && captured.Element("devices") is { } before)
        {
            PinControllers(devices, before);
            PinAddresses(devices, before);
        }
        Wait(domain);
        return domain.ToString(SaveOptions.DisableFormatting);
    }

    private static void PinMachine(XElement domain, XElement captured)
    {
        if (captured.Element("os")?.Element("type")?.Attribute("machine") is { } machine)
            domain.Element("os")?.Element("type")?.SetAttributeValue("machine", machine.Value);
        // host-model and host-passthrough would give this node's CPU, but the guest knows the CPU of the node it was captured on.
        if (captured.Element("cpu") is not { } cpu)
            return;
        domain.Element("cpu")?.Remove();
        XElement copy = new(cpu);
        if (domain.Element("os") is { } os)
            os.AddAfterSelf(copy);
        else
            domain.Add(copy);
    }

    // Bridges and buses first, because addresses refer to them. The captured XML also has the controllers that libvirt added by itself.
    private static void PinControllers(XElement devices, XElement before)
    {
        XElement[] controllers = [.. before.Elements("controller")];
        if (controllers.Length == 0)
            return;
        XElement[] replaced =
        [
            .. devices
                .Elements("controller")
                .Where(c => Array.Exists(controllers, b => b.Attribute("type")?.Value == c.Attribute("type")?.Value)),
        ];
        devices.Add(controllers.Select(c => new XElement(c)));
        foreach (XElement c in replaced)
            c.Remove();
    }

    private static void PinAddresses(XElement devices, XElement before)
    {
        Dictionary<(string, string), Queue<XElement>> captured = before
            .Elements()
            .Where(IsPlaced)
            .GroupBy(Identity)
            .ToDictionary(g => g.Key, g => new Queue<XElement>(g));
        foreach (XElement device in devices.Elements().Where(IsPlaced))
        {
            if (
                !captured.TryGetValue(Identity(device), out Queue<XElement>? same)
                || !same.TryDequeue(out XElement? was)
                || was.Element("address") is not { } address
            )
                continue;
            device.Element("address")?.Remove();
            device.Add(new XElement(address));
        }
    }

    private static bool IsPlaced(XElement device) => device.Name.LocalName != "controller" && !Unplaced.Contains(device.Name.LocalName);

    // The alias that KubeVirt gives (ua-<name>) identifies a device best; libvirt's own aliases only number the devices in order.
    private static (string Kind, string Name) Identity(XElement device)
    {
        string kind = device.Name.LocalName;
        if (device.Element("alias")?.Attribute("name")?.Value is { } alias && alias.StartsWith("ua-", StringComparison.Ordinal))
            return (kind, alias);
        if (kind == "channel" && device.Element("target")?.Attribute("name")?.Value is { } channel)
            return (kind, channel);
        return (
            kind,
            device.Attribute("model")?.Value ?? device.Element("model")?.Attribute("type")?.Value ?? device.Attribute("type")?.Value ?? ""
        );
    }

    private static void Wait(XElement domain)
    {
        XElement? line = domain.Element(Qemu + "commandline");
        if (line is null)
        {
            domain.SetAttributeValue(XNamespace.Xmlns + "qemu", Qemu.NamespaceName);
            domain.Add(line = new XElement(Qemu + "commandline"));
        }
        // libvirt requires arguments before environment variables.
        line.AddFirst(Argument("-incoming"), Argument("defer"));
    }

    private static XElement Argument(string value) => new(Qemu + "arg", new XAttribute("value", value));
}
