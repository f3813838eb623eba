using System.Buffers.Binary;
using Bgsnap.SnapshotFormat.Streams;

namespace Bgsnap.Engine.Restore;

/// <summary>
/// Compares the parts of the configuration spaces of two device states that no guest can change: if any of them differs, QEMU refuses the
/// PCI device in the middle of the load.
/// </summary>
/// <remarks>
/// <code>
///   a PCI device's section   be32 2, configuration space …
///   configuration space      vendor(2) device(2) … status(2) revision(1) … class(2) … header(1) … list(1) …
///   a capability             id(1) next(1) …
///       05 MSI      control(2): 64 bit, masks, how many
///       09 virtio   length(1) kind(1) … where the registers are; kind 5 is a window that the guest moves
///       11 MSI-X    control(2): how many vectors; table(4) pending(4)
/// </code>
/// Source: <c>get_pci_config_device()</c> in QEMU's <c>hw/pci/pci.c</c>, which compares by masks; these are the parts that are read-only
/// for every guest.
/// </remarks>
internal static class PciConfigCheck
{
    private const int Size = 256,
        StateVersion = 2,
        List = 0x34,
        HasList = 1 << 4,
        Most = 48;
    private const string OtherCapabilities = "other PCI capabilities (vectors, msi, modern or legacy virtio)";
    private const byte Msi = 0x05,
        Vendor = 0x09,
        MsiX = 0x11,
        Window = 5;

    /// <summary>Every difference, in words.</summary>
    /// <param name="snapshot">The device state that QEMU will load.</param>
    /// <param name="target">The device state that the target itself would write.</param>
    /// <param name="named">Places with a difference that is known already.</param>
    internal static IEnumerable<string> Differences(DeviceStateFile snapshot, DeviceStateFile target, IReadOnlyCollection<string> named)
    {
        Dictionary<(string, uint), DeviceSection> there = target
            .Sections.DistinctBy(s => (s.Name, s.InstanceId))
            .ToDictionary(s => (s.Name, s.InstanceId));
        foreach (DeviceSection section in snapshot.Sections.Where(s => !named.Contains(s.Name.Split('/')[0])))
        {
            if (
                there.TryGetValue((section.Name, section.InstanceId), out DeviceSection other)
                && Difference(ConfigOf(snapshot, section), ConfigOf(target, other)) is { } difference
            )
                yield return $"device {section.Name} has {difference}";
        }
    }

    /// <summary>The configuration space at the start of a section; empty: the section does not begin with one.</summary>
    private static ReadOnlySpan<byte> ConfigOf(DeviceStateFile file, in DeviceSection section)
    {
        if (!section.Name.StartsWith("0000:", StringComparison.Ordinal) || section.PayloadLength < sizeof(uint) + Size)
            return default;
        ReadOnlySpan<byte> payload = file.Bytes.Span.Slice(section.PayloadOffset, sizeof(uint) + Size);
        return BinaryPrimitives.ReadUInt32BigEndian(payload) == StateVersion ? payload[sizeof(uint)..] : default;
    }

    private static string? Difference(ReadOnlySpan<byte> captured, ReadOnlySpan<byte> target)
    {
        // The same vendor on both sides is no coincidence: it is a PCI device.
        if (captured.IsEmpty || target.IsEmpty || Word(captured, 0) != Word(target, 0) || Word(target, 0) is 0 or 0xffff)
            return null;
        if (Word(captured, 2) != Word(target, 2))
            return $"PCI id {Word(target, 0):x4}:{Word(target, 2):x4} instead of {Word(captured, 0):x4}:{Word(captured, 2):x4}";
        if (captured[8] != target[8] || Word(captured, 10) != Word(target, 10))
            return $"PCI revision {target[8]:x} of class {Word(target, 10):x4} instead of {captured[8]:x} of class {Word(captured, 10):x4}";
        if (captured[14] != target[14])
            return $"PCI header {target[14]:x2} instead of {captured[14]:x2} (multifunction)";
        (int before, int now) = (ListOf(captured), ListOf(target));
        return before != now ? OtherCapabilities
            : before == 0 ? null
            : Capabilities(captured, target, before);
    }

    /// <summary>Offset of the first capability; 0: no capability list.</summary>
    private static int ListOf(ReadOnlySpan<byte> config) => (Word(config, 6) & HasList) == 0 ? 0 : config[List];

    private static string? Capabilities(ReadOnlySpan<byte> captured, ReadOnlySpan<byte> target, int at)
    {
        for (int i = 0; at is >= 0x40 and < Size - 2 && i < Most; i++, at = captured[at + 1])
        {
            if (captured[at] != target[at] || captured[at + 1] != target[at + 1])
                return OtherCapabilities;
            if (Capability(captured[at..], target[at..]) is { } difference)
                return difference;
        }
        return null;
    }

    private static string? Capability(ReadOnlySpan<byte> captured, ReadOnlySpan<byte> target) =>
        captured[0] switch
        {
            MsiX when captured.Length >= 12 && (Word(captured, 2) & 0x7ff) != (Word(target, 2) & 0x7ff) =>
                $"{(Word(target, 2) & 0x7ff) + 1} vectors instead of {(Word(captured, 2) & 0x7ff) + 1}",
            MsiX when captured.Length >= 12 && !captured[4..12].SequenceEqual(target[4..12]) => "another table of vectors",
            Msi when captured.Length >= 4 && (Word(captured, 2) & 0x18e) != (Word(target, 2) & 0x18e) => "another kind of MSI",
            Vendor when IsOther(captured, target) => "other virtio registers (modern or legacy)",
            _ => null,
        };

    private static bool IsOther(ReadOnlySpan<byte> captured, ReadOnlySpan<byte> target)
    {
        if (captured.Length < 4 || Math.Max(captured[2], target[2]) > captured.Length)
            return false;
        return captured[2] != target[2]
            || captured[3] != target[3]
            || captured[3] != Window && !captured[..captured[2]].SequenceEqual(target[..target[2]]);
    }

    private static int Word(ReadOnlySpan<byte> config, int at) => BinaryPrimitives.ReadUInt16LittleEndian(config[at..]);
}
