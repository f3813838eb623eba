using System.Buffers.Binary;

namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>
/// The device state of a snapshot: what QMP <c>xen-save-devices-state</c> writes, every section of the machine but RAM.
/// </summary>
/// <remarks>
/// <code>
///   "QEVM"  be32 3  { 04 …device section… 7e id }  00
/// </code>
/// Source: QEMU's <c>qemu_save_device_state</c> in <c>migration/savevm.c</c>.
/// </remarks>
public sealed class DeviceStateFile
{
    private DeviceStateFile(ReadOnlyMemory<byte> bytes, IReadOnlyList<DeviceSection> sections)
    {
        Bytes = bytes;
        Sections = sections;
        LargestSectionId = sections.Max(s => s.Id);
    }

    /// <summary>The whole file.</summary>
    public ReadOnlyMemory<byte> Bytes { get; }

    /// <summary>The sections in the order of the file.</summary>
    public IReadOnlyList<DeviceSection> Sections { get; }

    /// <summary>Largest section id; ids need not be ascending.</summary>
    public uint LargestSectionId { get; }

    /// <summary>The part that a migration stream carries: the sections and the final <c>00</c>.</summary>
    public ReadOnlyMemory<byte> StreamPart => Bytes[MigrationFormat.FileHeaderLength..];

    /// <summary>Checks a file and finds its sections.</summary>
    /// <param name="bytes">The file; kept, not copied.</param>
    /// <param name="description">QEMU's description of the sections, if there is one; the sections are checked against it.</param>
    /// <exception cref="MigrationStreamException">It is not a complete device-state file.</exception>
    public static DeviceStateFile Parse(ReadOnlyMemory<byte> bytes, VmDescription? description = null) => Parse(bytes, description, 0);

    /// <inheritdoc cref="Parse(ReadOnlyMemory{byte}, VmDescription?)"/>
    /// <param name="bytes">The file; kept, not copied.</param>
    /// <param name="description">QEMU's description of the sections, if there is one; the sections are checked against it.</param>
    /// <param name="origin">Offset in the stream of the file's first byte, for errors.</param>
    internal static DeviceStateFile Parse(ReadOnlyMemory<byte> bytes, VmDescription? description, long origin)
    {
        ReadOnlySpan<byte> file = bytes.Span;
        if (file.Length < MigrationFormat.FileHeaderLength + 1)
            throw new MigrationStreamException("The device state is too short.", origin + file.Length);
        if (file.Length > MigrationFormat.MaxDeviceStateBytes)
            throw new MigrationStreamException(
                $"The device state is larger than {MigrationFormat.MaxDeviceStateBytes} bytes.",
                origin + MigrationFormat.MaxDeviceStateBytes
            );
        if (BinaryPrimitives.ReadUInt32BigEndian(file) != MigrationFormat.Magic)
            throw new MigrationStreamException("This is not a device state of QEMU: the magic is wrong.", origin);
        uint version = BinaryPrimitives.ReadUInt32BigEndian(file[4..]);
        if (version != MigrationFormat.Version)
            throw new MigrationStreamException(
                $"The device state has version {version}; only {MigrationFormat.Version} is known.",
                origin + 4
            );
        if (file[^1] != MigrationFormat.Eof)
            throw new MigrationStreamException(
                "The device state does not end with its end mark: it was cut short.",
                origin + file.Length - 1
            );
        return new DeviceStateFile(bytes, DeviceSectionWalk.Walk(file, description, origin));
    }

    /// <summary>Writes the first eight bytes of a device-state file.</summary>
    internal static void WriteHeader(Span<byte> destination)
    {
        BinaryPrimitives.WriteUInt32BigEndian(destination, MigrationFormat.Magic);
        BinaryPrimitives.WriteUInt32BigEndian(destination[4..], MigrationFormat.Version);
    }
}
