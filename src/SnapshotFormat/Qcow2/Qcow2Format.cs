// THE FILE disks/<name>.qcow2: qcow2 version 3, as https://gitlab.com/qemu-project/qemu/-/blob/master/docs/interop/qcow2.rst has it,
// in clusters of 64 KiB, without backing file, snapshots, encryption, compression or any incompatible feature. Big-endian.
//
//   0        ┌──────────────────────────────────────────────────┐
//            │ header                        written last        │  1 cluster
//   1        ├──────────────────────────────────────────────────┤
//            │ data of the first 512 MiB that hold any           │  clusters that are not all zero, in the disk's order
//            │ L2 table of these 512 MiB                         │  1 cluster: where each of 8192 clusters stands
//            │ data of the next, its L2 table, ...               │
//            ├──────────────────────────────────────────────────┤
//            │ L1 table                                          │  where each L2 table stands
//            │ refcount blocks    1 for every cluster of the file│
//            │ refcount table                                    │  where each refcount block stands
//            └──────────────────────────────────────────────────┘
//
// Nothing is written twice and nothing is read back, so a writer needs only one L2 table and the L1 table in memory.

namespace Bgsnap.SnapshotFormat.Qcow2;

/// <summary>Numbers of the format.</summary>
internal static class Qcow2Format
{
    public const uint Magic = 0x514649fb;
    public const int HeaderLength = 104,
        Version2HeaderLength = 72;
    public const int ClusterBits = 16,
        ClusterSize = 1 << ClusterBits;
    public const int EntriesPerL2 = ClusterSize / 8;

    /// <summary>Bytes of the disk that one L2 table describes.</summary>
    public const long L2Span = (long)EntriesPerL2 * ClusterSize;

    /// <summary>Clusters that one refcount block counts, 16 bits each.</summary>
    public const int RefcountsPerBlock = ClusterSize / 2;

    /// <summary>Largest disk: 64 TiB.</summary>
    public const long MaxVirtualSize = 1L << 46;

    /// <summary>A disk's size is a multiple of this many bytes.</summary>
    public const int SectorSize = 512;

    /// <summary>L1 and L2: the cluster's refcount is one, so it may be written in place.</summary>
    public const ulong Copied = 1UL << 63;

    /// <summary>L2: the cluster is compressed.</summary>
    public const ulong Compressed = 1UL << 62;

    /// <summary>L2: the cluster reads as zeros.</summary>
    public const ulong Zero = 1;

    /// <summary>L1 and L2: the offset.</summary>
    public const ulong OffsetMask = 0x00ff_ffff_ffff_fe00;
}
