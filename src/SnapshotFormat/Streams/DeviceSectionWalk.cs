using System.Buffers.Binary;
using System.Text;

namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>Finds the sections of a device state.</summary>
/// <remarks>
/// <code>
///   04 id(4) len(1) name instance(4) version(4)   payload …   7e id(4)   04 id(4) …   7e id(4)   00
/// </code>
/// A payload does not state its length: QEMU knows it from the device's code. But it ends with a footer that repeats the section's id, and
/// another header or the end follows. So a section ends at the first footer of its id that is followed by a plausible header (or the very
/// end): at least 19 bytes that a payload would have to contain by chance. If QEMU's description of the stream is available, the next
/// header must also be the described one.
/// </remarks>
internal static class DeviceSectionWalk
{
    private const int FooterLength = 5;

    /// <summary>Walks over all sections.</summary>
    /// <param name="file">The device-state file, from its magic to its final <c>00</c>.</param>
    /// <param name="description">QEMU's description, if there is one.</param>
    /// <param name="origin">Offset in the stream of the file's first byte, for errors.</param>
    /// <exception cref="MigrationStreamException">The sections do not fill the file exactly.</exception>
    public static List<DeviceSection> Walk(ReadOnlySpan<byte> file, VmDescription? description, long origin)
    {
        var sections = new List<DeviceSection>();
        int position = MigrationFormat.FileHeaderLength;
        while (position != file.Length - 1)
        {
            if (sections.Count == MigrationFormat.MaxSections)
                throw Error($"The device state has more than {MigrationFormat.MaxSections} sections.", position);
            if (!TryReadHeader(file[position..], out DeviceSection header, out int headerLength))
                throw Error("A device section was expected.", position);
            if (!Matches(description, sections.Count, header))
                throw Error($"Device section '{header.Name}' is not the one that QEMU described here.", position);

            int payload = position + headerLength;
            int end = FindEnd(file, payload, header.Id, description, sections.Count + 1);
            if (end < 0)
                throw Error($"Device section '{header.Name}' has no end: the device state was cut short.", payload);
            sections.Add(header with { PayloadOffset = payload, PayloadLength = end - payload });
            position = end + FooterLength;
        }
        if (description is not null && sections.Count != description.Devices.Count)
            throw Error($"QEMU described {description.Devices.Count} device sections, but {sections.Count} came.", position);
        if (sections.Count == 0)
            throw Error("The device state holds no device.", position);
        return sections;

        MigrationStreamException Error(string message, int at) => new(message, origin + at);
    }

    private static int FindEnd(ReadOnlySpan<byte> file, int from, uint id, VmDescription? description, int nextIndex)
    {
        Span<byte> footer = stackalloc byte[FooterLength];
        footer[0] = MigrationFormat.SectionFooter;
        BinaryPrimitives.WriteUInt32BigEndian(footer[1..], id);
        while (true)
        {
            int found = file[from..].IndexOf(footer);
            if (found < 0)
                return -1;
            int end = from + found;
            int next = end + FooterLength;
            if (next == file.Length - 1)
                return end;
            if (TryReadHeader(file[next..], out DeviceSection header, out _) && Matches(description, nextIndex, header))
                return end;
            from = end + 1;
        }
    }

    private static bool Matches(VmDescription? description, int index, in DeviceSection header) =>
        description is null
        || (index < description.Devices.Count && description.Devices[index] == new DescribedDevice(header.Name, header.InstanceId));

    private static bool TryReadHeader(ReadOnlySpan<byte> data, out DeviceSection header, out int length)
    {
        header = default;
        length = 0;
        if (data.Length < 6 || data[0] != MigrationFormat.SectionFull)
            return false;
        int nameLength = data[5];
        length = 6 + nameLength + 8;
        if (data.Length < length || !MigrationFormat.IsName(data.Slice(6, nameLength)))
            return false;
        header = new DeviceSection(
            BinaryPrimitives.ReadUInt32BigEndian(data[1..]),
            Encoding.ASCII.GetString(data.Slice(6, nameLength)),
            BinaryPrimitives.ReadUInt32BigEndian(data[(6 + nameLength)..]),
            BinaryPrimitives.ReadUInt32BigEndian(data[(10 + nameLength)..]),
            0,
            0
        );
        return true;
    }
}
