using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Streams;

namespace Bgsnap.NodeAgent.Restore;

/// <summary>A device of a machine with a place on a PCI bus.</summary>
/// <param name="Path">As names of sections begin: domain, bus, and slot and function of each level, such as <c>0000:00:02.0:00.0</c>.</param>
/// <param name="Type">QEMU's name of the type, such as <c>virtio-blk-pci</c>.</param>
internal sealed record PciDevice(string Path, string Type);

/// <summary>
/// Which PCI devices a QEMU has, by its <c>info qtree</c>: QEMU only reads its own tables for that, and asks no back end. It says less than the sections
/// of a device state, so it serves where those cannot be had.
/// </summary>
/// <remarks>
/// On the pc and q35 machines of QEMU 7.2 and 10.0, of about 40 device types all but <c>edu</c> and <c>pci-testdev</c> have a section that begins with
/// the path that is made here.
/// </remarks>
internal static class DeviceTree
{
    private const string Root = "0000:00";
    private static readonly string[] WithoutState = ["edu", "pci-testdev"];

    /// <summary>Asks QEMU.</summary>
    internal static string Read(IQmpMonitor qmp) => qmp.ExecuteHuman("info qtree");

    /// <summary>How many vCPUs there are.</summary>
    internal static int Cpus(IQmpMonitor qmp)
    {
        using QmpAnswer answer = qmp.Execute("query-cpus-fast");
        return answer.Return.GetArrayLength();
    }

    /// <summary>The types of all devices in the tree.</summary>
    internal static IEnumerable<string> Types(string tree) => tree.Split('\n').Select(l => l.Trim()).Where(l => l.StartsWith("dev: ", StringComparison.Ordinal)).Select(TypeOf);

    /// <summary>The devices on PCI buses.</summary>
    internal static IReadOnlyList<PciDevice> Parse(string tree)
    {
        List<PciDevice> found = [];
        Stack<Node> above = new();
        foreach (string line in tree.Split('\n'))
        {
            string words = line.Trim();
            int indent = line.Length - line.TrimStart().Length;
            while (words.Length > 0 && above.TryPeek(out Node? last) && last.Indent >= indent)
                above.Pop();
            Node? parent = above.TryPeek(out Node? p) ? p : null;
            if (words.StartsWith("bus: ", StringComparison.Ordinal))
                above.Push(new Node(indent, null, parent));
            else if (words.StartsWith("dev: ", StringComparison.Ordinal))
                above.Push(new Node(indent, TypeOf(words), parent));
            else if (words.StartsWith("type PCI", StringComparison.Ordinal) && parent is { Type: null })
                parent.Path = parent.Parent?.Path ?? Root;
            else if (words.StartsWith("addr = ", StringComparison.Ordinal) && parent is { Type: { } type, Path: null, Parent.Path: { } bus })
                found.Add(new PciDevice(parent.Path = $"{bus}:{words["addr = ".Length..]}", type));
        }
        return found;
    }

    /// <summary>Every difference between the sections of a snapshot and a target's tree, in words.</summary>
    /// <param name="snapshot">The sections that will be loaded.</param>
    /// <param name="target">The target's devices.</param>
    /// <param name="cpus">The target's number of vCPUs.</param>
    internal static IEnumerable<string> Differences(IReadOnlyList<DeviceSection> snapshot, IReadOnlyList<PciDevice> target, int cpus)
    {
        int wanted = snapshot.Count(s => s.Name == DeviceCheck.Cpu);
        if (wanted != cpus)
            yield return DeviceCheck.CpuDifference(cpus, wanted);
        Dictionary<string, string> there = target.DistinctBy(d => d.Path).ToDictionary(d => d.Path, d => d.Type);
        // The device itself comes first; what hangs at it, such as a SCSI disk, has more parts.
        Dictionary<string, string> sections = snapshot.Select(s => s.Name.Split('/', 2)).Where(n => n.Length == 2 && n[0].StartsWith("0000:", StringComparison.Ordinal))
            .DistinctBy(n => n[0]).ToDictionary(n => n[0], n => n[1]);
        foreach ((string path, string section) in sections)
        {
            if (!there.TryGetValue(path, out string? type))
                yield return $"no device {path}/{section}";
            else if (IsAnotherVirtio(type, [.. snapshot.Select(s => s.Name).Where(n => n.StartsWith(path + "/virtio-", StringComparison.Ordinal)).Select(n => n[(path.Length + 1)..])]))
                yield return $"device {path} is a {type}, in the snapshot a {section}";
        }
        foreach ((string path, string type) in there)
        {
            if (!sections.ContainsKey(path) && !WithoutState.Contains(type))
                yield return $"device {path}/{type} is not in the snapshot";
        }
    }

    /// <summary>virtio-blk-pci has a section virtio-blk, virtio-serial-pci one that is called virtio-console, keyboard and tablet virtio-input.</summary>
    private static bool IsAnotherVirtio(string type, IReadOnlyList<string> sections)
    {
        string kind = type.Split("-pci")[0] switch { "virtio-serial" => "virtio-console", "virtio-keyboard" or "virtio-mouse" or "virtio-tablet" => "virtio-input", var other => other };
        return kind.StartsWith("virtio-", StringComparison.Ordinal) && type.Contains("-pci", StringComparison.Ordinal) && !sections.Contains(kind);
    }

    private static string TypeOf(string words) => words["dev: ".Length..].Split(',')[0];

    /// <summary>A bus (its type of device is null) or a device on the way down to a line.</summary>
    private sealed class Node(int indent, string? type, Node? parent)
    {
        internal int Indent => indent;
        internal string? Type => type;
        internal Node? Parent => parent;
        internal string? Path { get; set; }
    }
}
