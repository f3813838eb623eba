namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>
/// Numbers of QEMU's migration stream, version 3, as in <c>migration/savevm.h</c>, <c>migration/savevm.c</c> and <c>migration/ram.c</c>;
/// and our limits on what a stream may claim.
/// </summary>
/// <remarks>
/// All integers of the stream are big-endian. <c>docs/qemu-streams.md</c> draws the whole.
/// </remarks>
internal static class MigrationFormat
{
    /// <summary>"QEVM".</summary>
    public const uint Magic = 0x5145564d;

    /// <summary>The only version that QEMU has written since 2008.</summary>
    public const uint Version = 3;

    /// <summary>Bytes of magic and version.</summary>
    public const int FileHeaderLength = 8;

    // Types of what follows in the stream (savevm.h, QEMU_VM_*).
    public const byte Eof = 0x00;
    public const byte SectionStart = 0x01;
    public const byte SectionPart = 0x02;
    public const byte SectionEnd = 0x03;
    public const byte SectionFull = 0x04;
    public const byte Subsection = 0x05;
    public const byte VmDescription = 0x06;
    public const byte Configuration = 0x07;
    public const byte Command = 0x08;
    public const byte SectionFooter = 0x7e;

    /// <summary>QEMU 10 sends this command before the devices; a reader of only RAM and devices need not act on it.</summary>
    public const ushort CommandSwitchoverStart = 11;

    // Low twelve bits of a page record's first word (ram.c, RAM_SAVE_FLAG_*).
    public const ulong FlagZero = 0x02;
    public const ulong FlagMemSize = 0x04;
    public const ulong FlagPage = 0x08;
    public const ulong FlagEos = 0x10;
    public const ulong FlagContinue = 0x20;
    public const ulong FlagMask = 0xfff;

    /// <summary>Name of the section that carries RAM.</summary>
    public const string RamSectionName = "ram";

    /// <summary>Version of that section since QEMU 1.0.</summary>
    public const uint RamSectionVersion = 4;

    /// <summary>Bytes of a target page; x86 has no other.</summary>
    public const int PageSize = 4096;

    /// <summary>log2 of <see cref="PageSize"/>.</summary>
    public const int PageBits = 12;

    /// <summary>Bytes of a granule, the unit in which RAM is read from a snapshot.</summary>
    public const int GranuleSize = 65536;

    /// <summary>Pages of a granule.</summary>
    public const int PagesPerGranule = GranuleSize / PageSize;

    /// <summary>Bytes of a page record's first word.</summary>
    public const int PageWordLength = 8;

    /// <summary>Longest section, block or machine name: one length byte.</summary>
    public const int MaxNameLength = 255;

    /// <summary>More RAM blocks than any machine has (a big one has a few hundred).</summary>
    public const int MaxBlocks = 4096;

    /// <summary>Largest total RAM of all blocks, bytes: x86's 52 physical address bits.</summary>
    public const ulong MaxRamBytes = 1UL << 52;

    /// <summary>Largest device state, bytes.</summary>
    public const int MaxDeviceStateBytes = 1 << 30;

    /// <summary>Largest JSON description of the device state, bytes.</summary>
    public const int MaxVmDescriptionBytes = 64 << 20;

    /// <summary>More device sections than any machine has.</summary>
    public const int MaxSections = 65536;

    /// <summary>Whether QEMU could have given this name: 1 to 255 printable ASCII characters.</summary>
    public static bool IsName(ReadOnlySpan<byte> name) =>
        name.Length is > 0 and <= MaxNameLength && !name.ContainsAnyExceptInRange((byte)0x20, (byte)0x7e);

    /// <inheritdoc cref="IsName(ReadOnlySpan{byte})"/>
    public static bool IsName(string name) => name.Length is > 0 and <= MaxNameLength && !name.AsSpan().ContainsAnyExceptInRange(' ', '~');
}
