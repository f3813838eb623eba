using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Qemu.Vm;

/// <summary>
/// Finds a QEMU's PCI devices in its <c>info qtree</c>, for which QEMU only reads its own tables and asks no back end. It has less detail
/// than the sections of a device state, but the agent can ask for it without harm in a machine that never ran, and a snapshot can keep it.
/// </summary>
/// <remarks>
/// On the pc and q35 machines of QEMU 7.2 and 10.0, of about 40 device types all but <c>edu</c> and <c>pci-testdev</c> have a section that
/// begins with the path that is built here.
/// </remarks>
internal static class DeviceTree
{
    private const string Root = "0000:00",
        Address = "addr = ",
        PciId = "pci id ";

    // No machine has as many, and a QEMU's output must not fill a manifest.
    private const int MaxDevices = 4096;

    /// <summary>
    /// Properties of a device, or of the virtio device in it, that shape its state. Others, such as names and back ends, may differ.
    /// </summary>
    private static readonly string[] Kept = ["vectors", "num-queues", "num_queues", "multifunction", "hotplug"];

    /// <summary>The same for USB controllers, whose properties <c>info qtree</c> leaves out.</summary>
    private static readonly string[] UsbPorts = ["p2", "p3", "slots", "intrs"];

    /// <summary>Ports of a virtio-serial device, from their <c>nr</c>.</summary>
    private const string SerialPorts = "ports";

    /// <summary>Reads the tree from QEMU.</summary>
    internal static string Read(IQmpMonitor qmp) => qmp.ExecuteHuman("info qtree");

    /// <summary>Reads QEMU's PCI devices, with the properties that shape their state.</summary>
    /// <param name="qmp">Its monitor.</param>
    /// <param name="tree">Its tree, if known; null: read it from QEMU.</param>
    internal static IReadOnlyList<PciDevice> Devices(IQmpMonitor qmp, string? tree = null) =>
        [.. Parse(tree ?? Read(qmp)).Take(MaxDevices).Select(d => IsUsbController(d) ? WithPorts(qmp, d) : d)];

    /// <summary>Number of vCPUs.</summary>
    internal static int Cpus(IQmpMonitor qmp)
    {
        using QmpAnswer answer = qmp.Execute("query-cpus-fast");
        return answer.Return.GetArrayLength();
    }

    /// <summary>The types of all devices in the tree.</summary>
    internal static IEnumerable<string> Types(string tree) =>
        tree.Split('\n').Select(l => l.Trim()).Where(l => l.StartsWith("dev: ", StringComparison.Ordinal)).Select(TypeOf);

    /// <summary>The devices on PCI buses, except those behind an expander (pxb), whose buses have numbers of their own.</summary>
    internal static IReadOnlyList<PciDevice> Parse(string tree)
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

    /// <summary>Records a property that shapes the state of the PCI device that a line belongs to.</summary>
    private static void Note(Node device, string words)
    {
        if (words.StartsWith("class ", StringComparison.Ordinal) && words.IndexOf(PciId, StringComparison.Ordinal) is > 0 and var at)
            device.PciId = words[(at + PciId.Length)..].Split(' ')[0];
        if (words.Split(" = ", 2) is not [var name, var value])
            return;
        value = value.Split(' ')[0];
        if (device.Type == "virtserialport" || device.Type == "virtconsole")
        {
            // The parents are the bus, the virtio device and the PCI device.
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

    private static bool IsUsbController(PciDevice device) =>
        device.Id is not null && device.Type.Contains("xhci", StringComparison.Ordinal);

    private static PciDevice WithPorts(IQmpMonitor qmp, PciDevice controller)
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
                // qemu-xhci has a fixed number of ports.
            }
        }
        return controller with { Properties = shape };
    }

    private static string TypeOf(string words) => words["dev: ".Length..].Split(',')[0];

    private static string? IdOf(string words) => words.Split("id \"", 2) is [_, { Length: > 1 } rest] ? rest[..^1] : null;

    /// <summary>A bus (without a device type) or a device on the way down to a line.</summary>
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

        internal PciDevice ToDevice()
        {
            // Sorted, whatever order QEMU lists them in; a device without ports differs from one with ports.
            if (type!.StartsWith("virtio-serial", StringComparison.Ordinal))
                Shape[SerialPorts] = Ports.Count == 0 ? "none" : string.Join(',', Ports.Order(StringComparer.Ordinal));
            return new PciDevice(Path!, type)
            {
                Id = id,
                PciId = PciId,
                Properties = Shape.Count > 0 ? Shape : null,
            };
        }
    }
}
