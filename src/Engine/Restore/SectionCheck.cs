using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Streams;

namespace Bgsnap.Engine.Restore;

/// <summary>Compares the sections of a device state with the device tree of a QEMU that cannot save sections of its own.</summary>
internal static class SectionCheck
{
    private static readonly string[] WithoutState = ["edu", "pci-testdev"];

    /// <summary>Every difference between the sections of a snapshot and a target's tree, in words.</summary>
    /// <param name="snapshot">The sections that QEMU will load.</param>
    /// <param name="target">The target's devices.</param>
    /// <param name="cpus">The target's number of vCPUs.</param>
    internal static IEnumerable<string> Differences(IReadOnlyList<DeviceSection> snapshot, IReadOnlyList<PciDevice> target, int cpus)
    {
        int wanted = snapshot.Count(s => s.Name == DeviceCheck.Cpu);
        if (wanted != cpus)
            yield return DeviceCheck.CpuDifference(cpus, wanted);
        Dictionary<string, string> there = target.DistinctBy(d => d.Path).ToDictionary(d => d.Path, d => d.Type);
        // The device itself comes first; a device on its bus, such as a SCSI disk, has more parts in its path.
        Dictionary<string, string> sections = snapshot
            .Select(s => s.Name.Split('/', 2))
            .Where(n => n.Length == 2 && n[0].StartsWith("0000:", StringComparison.Ordinal))
            .DistinctBy(n => n[0])
            .ToDictionary(n => n[0], n => n[1]);
        foreach ((string path, string section) in sections)
        {
            if (!there.TryGetValue(path, out string? type))
                yield return $"no device {path}/{section}";
            else if (IsAnotherVirtio(type, VirtioAt(path, snapshot)))
                yield return $"device {path} is a {type}, in the snapshot a {section}";
        }
        foreach ((string path, string type) in there)
        {
            if (!sections.ContainsKey(path) && !WithoutState.Contains(type))
                yield return $"device {path}/{type} is not in the snapshot";
        }
    }

    private static IReadOnlyList<string> VirtioAt(string path, IReadOnlyList<DeviceSection> snapshot) =>
        [.. snapshot.Where(s => s.Name.StartsWith(path + "/virtio-", StringComparison.Ordinal)).Select(s => s.Name[(path.Length + 1)..])];

    /// <remarks>
    /// virtio-blk-pci has a section virtio-blk, virtio-serial-pci has virtio-console, keyboard and tablet have virtio-input.
    /// </remarks>
    private static bool IsAnotherVirtio(string type, IReadOnlyList<string> sections)
    {
        string kind = type.Split("-pci")[0] switch
        {
            "virtio-serial" => "virtio-console",
            "virtio-keyboard" or "virtio-mouse" or "virtio-tablet" => "virtio-input",
            var other => other,
        };
        return kind.StartsWith("virtio-", StringComparison.Ordinal)
            && type.Contains("-pci", StringComparison.Ordinal)
            && !sections.Contains(kind);
    }
}
