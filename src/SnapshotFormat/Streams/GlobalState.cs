using System.Buffers.Binary;
using System.Text;

namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>The section that tells QEMU whether the guest runs once everything is loaded.</summary>
/// <remarks>
/// <code>
///   04 id(4) 0b "globalstate" 0(4) 1(4)
///       be32 length of the state's name and its 00
///       32 bytes, the name
///       68 bytes, other fields (before 8.2: the rest of the name)
///   7e id(4)
/// </code>
/// QEMU's value is not what the guest did: <c>xen-save-devices-state</c> always writes <c>running</c>, and a background-snapshot writes
/// <c>paused</c> for a guest that was stopped for a moment to cut its disks. With <c>-global migration.store-global-state=off</c> QEMU
/// writes no such section for a guest that runs or is paused, but still reads one. Source: QEMU's <c>migration/global_state.c</c>.
/// </remarks>
internal static class GlobalState
{
    /// <summary>The section's name.</summary>
    internal const string SectionName = "globalstate";

    private const int NameLength = 32,
        PayloadLength = sizeof(uint) + 100;

    // No other section has it, and nothing refers by number to a section that is complete.
    private const uint NewId = MigrationStreamWriter.RamSectionId + 1;

    /// <summary>Returns a device state that leaves its guest running or paused.</summary>
    /// <param name="devices">The device state as QEMU wrote it; it is not changed.</param>
    /// <param name="paused">Whether the guest is to be paused.</param>
    internal static DeviceStateFile With(DeviceStateFile devices, bool paused)
    {
        foreach (DeviceSection section in devices.Sections)
        {
            if (section.Name != SectionName)
                continue;
            // A different length comes from a QEMU that we do not know: keep its value.
            return section.PayloadLength == PayloadLength ? Changed(devices, section, paused) : devices;
        }
        return paused ? Added(devices) : devices;
    }

    private static DeviceStateFile Changed(DeviceStateFile devices, DeviceSection section, bool paused)
    {
        byte[] bytes = devices.Bytes.ToArray();
        Fill(bytes.AsSpan(section.PayloadOffset, PayloadLength), paused);
        return DeviceStateFile.Parse(bytes);
    }

    private static DeviceStateFile Added(DeviceStateFile devices)
    {
        byte[] name = Encoding.ASCII.GetBytes(SectionName);
        byte[] section = new byte[1 + 4 + 1 + name.Length + 4 + 4 + PayloadLength + 1 + 4];
        section[0] = MigrationFormat.SectionFull;
        BinaryPrimitives.WriteUInt32BigEndian(section.AsSpan(1), NewId);
        section[5] = (byte)name.Length;
        name.CopyTo(section, 6);
        int at = 6 + name.Length + 4;
        BinaryPrimitives.WriteUInt32BigEndian(section.AsSpan(at), 1);
        Fill(section.AsSpan(at + 4, PayloadLength), paused: true);
        section[^5] = MigrationFormat.SectionFooter;
        BinaryPrimitives.WriteUInt32BigEndian(section.AsSpan(section.Length - 4), NewId);
        return DeviceStateFile.Parse((byte[])[.. devices.Bytes.Span[..^1], .. section, MigrationFormat.Eof]);
    }

    private static void Fill(Span<byte> payload, bool paused)
    {
        ReadOnlySpan<byte> name = paused ? "paused"u8 : "running"u8;
        BinaryPrimitives.WriteUInt32BigEndian(payload, (uint)name.Length + 1);
        Span<byte> field = payload.Slice(sizeof(uint), NameLength);
        field.Clear();
        name.CopyTo(field);
    }
}
