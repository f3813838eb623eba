// THE FILE `memory`, VERSION 1. Little-endian; every field naturally aligned; written in multiples of 4096 bytes.
// docs/snapshot-format.md has the same drawing and every field byte by byte.
//
//   0        ┌──────────────────────────────────────────────────────┐
//            │ header    "BGSNPLOG", sizes, id, block table, zeros  │  n × 4096
//            │                                    XXH3-64 of it ──┐ │
//            ├────────────────────────────────────────────────────┼─┤
//   4096·k   │ run       granule│granule│granule ...  zeros to 4K │ │◀─┐ each granule: XXH3 in its entry
//            ├────────────────────────────────────────────────────┼─┤  │
//   4096·m   │ run       granule│granule ...          zeros to 4K │ │◀─┤
//            ├────────────────────────────────────────────────────┼─┤  │
//            │ ...       in order of arrival                      │ │  │
//            ├────────────────────────────────────────────────────┼─┤  │
//   index    │ entry│entry│entry ...  16 bytes for EVERY granule  │ │──┘ offset, pages, length, encoding, checksum
//            │           of every block, header order; zeros to 4K│ │──┐
//            ├────────────────────────────────────────────────────┼─┤  │ XXH3-64 of the index
//   size−4K  │ footer    "BGSNPEND", header checksum ◀────────────┘ │  │
//            │           where the index is, its checksum ◀─────────┼──┘
//            │           counts, zeros, XXH3-64 of the footer       │──▶ XXH3-128 of the footer: in snapshot.json
//   size     └──────────────────────────────────────────────────────┘
//
//   entry    lo  63      48 47                                    0
//               │  pages   │        offset from the file's start   │
//            hi  63      52 51    49 48        32 31               0
//               │  zero    │encoding│stored length│    checksum    │

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>Sizes, names and limits of the snapshot format, version 1.</summary>
public static class FormatV1
{
    /// <summary>Bytes of a page, the unit that is either stored or zero.</summary>
    public const int PageSize = 4096;

    /// <summary>Bytes of a granule, the unit that is indexed, checksummed and compressed.</summary>
    public const int GranuleSize = 65536;

    /// <summary>Pages of a granule.</summary>
    public const int PagesPerGranule = GranuleSize / PageSize;

    /// <summary>Bytes of an index entry.</summary>
    public const int EntrySize = 16;

    /// <summary>Runs, index and footer begin at multiples of this many bytes, so that O_DIRECT can write them.</summary>
    public const int Alignment = 4096;

    /// <summary>Version of header, index and footer.</summary>
    public const int Version = 1;

    /// <summary>Version of the manifest.</summary>
    public const int ManifestVersion = 1;

    /// <summary>Value of the manifest's <c>kind</c>.</summary>
    public const string ManifestKind = "bgsnap.io/snapshot";

    /// <summary>File name of the manifest.</summary>
    public const string ManifestFileName = "snapshot.json";

    /// <summary>File name of the page log.</summary>
    public const string MemoryFileName = "memory";

    /// <summary>File name of the device state.</summary>
    public const string DeviceStateFileName = "device-state";

    /// <summary>File name of libvirt's description of the machine.</summary>
    public const string DomainXmlFileName = "domain.xml";

    /// <summary>File name of the Kubernetes objects from which the machine was created.</summary>
    public const string ObjectsFileName = "kubernetes.json";

    /// <summary>Folder of the disks' files.</summary>
    public const string DisksFolderName = "disks";

    /// <summary>A hint for restores, written by a restore, which no checksum of the snapshot covers (docs/design/0014).</summary>
    public const string StartOrderFileName = "start-order";

    /// <summary>Its name while it is being written.</summary>
    public const string StartOrderPartialName = ".start-order.partial";

    /// <summary>Largest manifest that is accepted, in bytes.</summary>
    public const long MaxManifestSize = 16L << 20;

    /// <summary>Largest device state that is accepted, in bytes.</summary>
    public const long MaxDeviceStateSize = 1L << 30;

    /// <summary>Largest of either description of the machine, in bytes.</summary>
    public const long MaxMachineFileSize = 4L << 20;

    /// <summary>Most RAM blocks of one machine.</summary>
    public const int MaxBlocks = 4096;

    /// <summary>Longest block name, in bytes of UTF-8 (QEMU's idstr has one length byte).</summary>
    public const int MaxBlockName = 255;

    /// <summary>Most guest RAM of one snapshot, in bytes (16 TiB): bounds the index at 4 GiB.</summary>
    public const ulong MaxTotalRam = 1UL << 44;

    /// <summary>Longest header, in bytes: 4096 blocks with the longest names.</summary>
    public const int MaxHeaderSize = 2 << 20;

    /// <summary>Largest file offset: offsets have 48 bits.</summary>
    public const long MaxOffset = (1L << 48) - 1;

    /// <summary>Rounds up to the next multiple of <see cref="Alignment"/>. Values within 4 KiB of the type's end overflow.</summary>
    public static long Align(long value) => (value + (Alignment - 1)) & ~(Alignment - 1L);

    /// <summary>Number of granules of a block with <paramref name="usedLength"/> bytes; the last may be short.</summary>
    public static long GranuleCount(ulong usedLength) => (long)((usedLength / GranuleSize) + (usedLength % GranuleSize == 0 ? 0UL : 1UL));

    /// <summary>Bytes of one granule: 65536, or less (a multiple of 4096) for the last of a block.</summary>
    public static int GranuleLength(ulong usedLength, long granule) =>
        (int)Math.Min(GranuleSize, usedLength - ((ulong)granule * GranuleSize));
}
