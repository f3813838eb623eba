using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Store;

namespace Bgsnap.NodeAgent.Vm;

/// <summary>
/// Which PCI devices a QEMU has, by its <c>info qtree</c>: QEMU only reads its own tables for that, and asks no back end. It says less than
/// the sections of a device state, but of a machine that never ran it can be asked without harm, and a snapshot can keep it.
/// </summary>
/// <remarks>
/// On the pc and q35 machines of QEMU 7.2 and 10.0, of about 40 device types all but <c>edu</c> and <c>pci-testdev</c> have a section that
/// begins with the path that is made here.
/// </remarks>
internal static class DeviceTree
{
    private const string Root = "0000:00",
        Address = "addr = ",
        PciId = "pci id ";

    // No machine has as many, and what a QEMU prints is not to fill a manifest.
    private const int MaxDevices = 4096;

    /// <summary>
    /// Properties of a device, or of the virtio device in it, that shape its state. Others, such as names and back ends, may differ.
    /// </summary>
    private static readonly string[] Kept = ["vectors", "num-queues", "num_queues", "multifunction", "hotplug"];

    /// <summary>The same of USB controllers, which <c>info qtree</c> leaves out.</summary>
    private static readonly string[] UsbPorts = ["p2", "p3", "slots", "intrs"];

    /// <summary>Ports of a virtio-serial device, made from their <c>nr</c>.</summary>
    private const string SerialPorts = "ports";

    /// <summary>Asks QEMU.</summary>
    internal static string Read(IQmpMonitor qmp) => qmp.ExecuteHuman("info qtree");

    /// <summary>Asks QEMU for its PCI devices, with what shapes their state.</summary>
    /// <param name="qmp">Its monitor.</param>
    /// <param name="tree">Its tree, where that is known; null: it is asked for.</param>
    internal static IReadOnlyList<ManifestDevice> Devices(IQmpMonitor qmp, string? tree = null) =>
        [.. Parse(tree ?? Read(qmp)).Take(MaxDevices).Select(d => IsUsbController(d) ? WithPorts(qmp, d) : d)];

    /// <summary>How many vCPUs there are.</summary>
    internal static int Cpus(IQmpMonitor qmp)
    {
        using QmpAnswer answer = qmp.Execute("query-cpus-fast");
        return answer.Return.GetArrayLength();
    }

    /// <summary>The types of all devices in the tree.</summary>
    internal static IEnumerable<string> Types(string tree) =>
        tree.Split('\n').Select(l => l.Trim()).Where(l => l.StartsWith("dev: ", StringComparison.Ordinal)).Select(TypeOf);

    /// <summary>The devices on PCI buses; not those behind an expander (pxb), whose buses have numbers of their own.</summary>
    internal static IReadOnlyList<ManifestDevice> Parse(string tree)
    {
        List<Node> found = [];
        Stack<Node> above = new();
        foreach (string line in tree.Split('\n'))
        {
            string words = line.Trim();
            int indent = line.Length - line.TrimStart().Length;
            while (words.Length > 0 && above.TryPeek(out Node? last) && last.Indent >= indent)
                above.Pop();
            Node? parent = above.TryPeek(out Node? p) ? p : null;
            if (words.StartsWith("bus: ", StringComparison.Ordinal))
                above.Push(new Node(indent, null, null, parent));
            else if (words.StartsWith("dev: ", StringComparison.Ordinal))
                above.Push(new Node(indent, TypeOf(words), IdOf(words), parent));
            else if (words.StartsWith("type PCI", StringComparison.Ordinal) && parent is { Type: null })
                parent.Path = parent.Parent?.Path ?? (parent.Parent?.Parent?.Parent is null ? Root : null);
            else if (words.StartsWith(Address, StringComparison.Ordinal) && parent is { Type: not null, Path: null, Parent.Path: { } bus })
                found.Add(parent.At($"{bus}:{words[Address.Length..]}"));
            else if (parent is { Type: not null })
                Note(parent, words);
        }
        return [.. found.Select(n => n.ToDevice())];
    }

    /// <summary>Notes what shapes the state of the PCI device that a line is about.</summary>
    private static void Note(Node device, string words)
    {
        if (words.StartsWith("class ", StringComparison.Ordinal) && words.IndexOf(PciId, StringComparison.Ordinal) is > 0 and var at)
            device.PciId = words[(at + PciId.Length)..].Split(' ')[0];
        if (words.Split(" = ", 2) is not [var name, var value])
            return;
        value = value.Split(' ')[0];
        if (device.Type == "virtserialport" || device.Type == "virtconsole")
        {
            // The bus, the virtio device, the PCI device.
            if (name == "nr" && device.Parent?.Parent?.Parent?.Parent is { Type: not null } serial)
                serial.Ports.Add(value);
        }
        else if (Kept.Contains(name))
        {
            Node owner = IsVirtioDevice(device.Type!) ? device.Parent?.Parent ?? device : device;
            owner.Shape[name] = value;
        }
    }

    /// <summary>The part of a virtio device that is the same on every bus.</summary>
    private static bool IsVirtioDevice(string type) =>
        type.StartsWith("virtio-", StringComparison.Ordinal) && type.EndsWith("-device", StringComparison.Ordinal);

    private static bool IsUsbController(ManifestDevice device) =>
        device.Id is not null && device.Type.Contains("xhci", StringComparison.Ordinal);

    private static ManifestDevice WithPorts(IQmpMonitor qmp, ManifestDevice controller)
    {
        SortedDictionary<string, string> shape = new(StringComparer.Ordinal);
        foreach ((string name, string value) in controller.Properties ?? new Dictionary<string, string>())
            shape[name] = value;
        foreach (string name in UsbPorts)
        {
            try
            {
                string path = $"/machine/peripheral/{controller.Id}";
                using QmpAnswer answer = qmp.Execute("qom-get", QmpJson.Object(("path", path), ("property", name)));
                shape[name] = answer.Return.ToString();
            }
            catch (QmpException e) when (e.ErrorClass is not null)
            {
                // qemu-xhci has a fixed number of them.
            }
        }
        return controller with { Properties = shape };
    }

    private static string TypeOf(string words) => words["dev: ".Length..].Split(',')[0];

    private static string? IdOf(string words) => words.Split("id \"", 2) is [_, { Length: > 1 } rest] ? rest[..^1] : null;

    /// <summary>A bus (its type of device is null) or a device on the way down to a line.</summary>
    private sealed class Node(int indent, string? type, string? id, Node? parent)
    {
        internal int Indent => indent;
        internal string? Type => type;
        internal Node? Parent => parent;
        internal string? Path { get; set; }
        internal string? PciId { get; set; }
        internal SortedDictionary<string, string> Shape { get; } = new(StringComparer.Ordinal);
        internal List<string> Ports { get; } = [];

        internal Node At(string path)
        {
            Path = path;
            return this;
        }

        internal ManifestDevice ToDevice()
        {
            // In whatever order QEMU lists them; a device without ports is another than one with some.
            if (type!.StartsWith("virtio-serial", StringComparison.Ordinal))
                Shape[SerialPorts] = Ports.Count == 0 ? "none" : string.Join(',', Ports.Order(StringComparer.Ordinal));
            return new ManifestDevice(Path!, type)
            {
                Id = id,
                PciId = PciId,
                Properties = Shape.Count > 0 ? Shape : null,
            };
        }
    }
}
