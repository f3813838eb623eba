using System.Buffers.Binary;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;
using static Bgsnap.SnapshotFormat.Qcow2.Qcow2Format;

namespace Bgsnap.SnapshotFormat.Qcow2;

/// <summary>The header of a qcow2 file, with every field checked against the file.</summary>
internal sealed record Qcow2Header
{
    private const int MaxRefcountTable = 8 << 20;

    public required int Version { get; init; }

    public required int ClusterBits { get; init; }

    public required long VirtualSize { get; init; }

    /// <summary>Number of entries in the table; <see cref="L1Needed"/> of them describe the disk.</summary>
    public required int L1Entries { get; init; }

    public required long L1Offset { get; init; }

    public required long RefcountTableOffset { get; init; }

    public required long RefcountTableBytes { get; init; }

    public int ClusterSize => 1 << ClusterBits;

    /// <summary>Bytes of the disk that one L2 table describes.</summary>
    public long L2Span => (long)(ClusterSize / 8) * ClusterSize;

    public int L1Needed => (int)((VirtualSize + L2Span - 1) / L2Span);

    /// <exception cref="SnapshotCorruptException">It is not a valid header, or has a feature that a snapshot's disk does not
    /// need.</exception>
    public static Qcow2Header Read(SafeFileHandle file, long size, string display)
    {
        Span<byte> h = stackalloc byte[HeaderLength];
        h.Clear();
        if (size < Version2HeaderLength)
            throw Wrong(0, "the file is too short for a qcow2 header");
        HostileFile.ReadExactly(file, h[..(int)Math.Min(size, HeaderLength)], 0, display);
        if (BinaryPrimitives.ReadUInt32BigEndian(h) != Magic)
            throw Wrong(0, "not a qcow2 file");
        uint version = BinaryPrimitives.ReadUInt32BigEndian(h[4..]);
        if (version is not (2 or 3))
            throw Wrong(4, $"qcow2 version {version} is unknown");
        if (version == 2)
            h[Version2HeaderLength..].Clear();
        else if (size < HeaderLength)
            throw Wrong(size, "the file is too short for a qcow2 header");
        if (BinaryPrimitives.ReadUInt64BigEndian(h[8..]) != 0)
            throw Wrong(8, "the disk has a backing file");
        uint bits = BinaryPrimitives.ReadUInt32BigEndian(h[20..]);
        if (bits is < 9 or > 21)
            throw Wrong(20, $"clusters of 2^{bits} bytes are not allowed");
        ulong virtualSize = BinaryPrimitives.ReadUInt64BigEndian(h[24..]);
        if (virtualSize > (ulong)MaxVirtualSize || virtualSize % SectorSize != 0)
            throw Wrong(24, $"a disk of {virtualSize} bytes is not allowed");
        if (BinaryPrimitives.ReadUInt32BigEndian(h[32..]) != 0)
            throw Wrong(32, "the disk is encrypted");
        if (BinaryPrimitives.ReadUInt32BigEndian(h[60..]) != 0)
            throw Wrong(60, "the disk has internal snapshots");
        if (BinaryPrimitives.ReadUInt64BigEndian(h[72..]) is var features && features != 0)
            throw Wrong(
                72,
                $"the disk has incompatible features ({features:x}): it was not closed, is damaged, or is of a kind that snapshots "
                    + "do not hold"
            );
        if (version == 3 && BinaryPrimitives.ReadUInt32BigEndian(h[96..]) is var order && order != 4)
            throw Wrong(96, $"refcounts of 2^{order} bits are not what snapshots have");
        if (
            version == 3
            && BinaryPrimitives.ReadUInt32BigEndian(h[100..]) is var length
            && (length < HeaderLength || length > 1u << (int)bits || length % 8 != 0)
        )
            throw Wrong(100, $"a header of {length} bytes is not allowed");

        ulong tableBytes = (ulong)BinaryPrimitives.ReadUInt32BigEndian(h[56..]) << (int)bits;
        if (tableBytes is 0 or > MaxRefcountTable)
            throw Wrong(56, $"a refcount table of {tableBytes} bytes is not allowed");
        Qcow2Header header = new()
        {
            Version = (int)version,
            ClusterBits = (int)bits,
            VirtualSize = (long)virtualSize,
            L1Entries = (int)Math.Min(BinaryPrimitives.ReadUInt32BigEndian(h[36..]), int.MaxValue),
            L1Offset = Offset(h, 40),
            RefcountTableOffset = Offset(h, 48),
            RefcountTableBytes = (long)tableBytes,
        };
        // The largest disk with the smallest clusters would need 16 GiB of L1 table; QEMU stops at 32 MiB, and so do we.
        if (header.L1Entries > (32 << 20) / 8 || (header.VirtualSize + header.L2Span - 1) / header.L2Span > header.L1Entries)
            throw Wrong(36, $"an L1 table of {header.L1Entries} entries does not fit a disk of {virtualSize} bytes");
        if (header.L1Offset > size - (header.L1Entries * 8L))
            throw Wrong(40, "the L1 table leads past the end of the file");
        if (header.RefcountTableOffset > size - header.RefcountTableBytes)
            throw Wrong(48, "the refcount table leads past the end of the file");
        return header;

        long Offset(ReadOnlySpan<byte> bytes, int at)
        {
            ulong offset = BinaryPrimitives.ReadUInt64BigEndian(bytes[at..]);
            return offset >= 1UL << (int)bits && offset < (ulong)size && offset % (1UL << (int)bits) == 0
                ? (long)offset
                : throw Wrong(at, $"a table at offset {offset} is not allowed in a file of {size} bytes");
        }

        SnapshotCorruptException Wrong(long at, string what) => new(display, at, what);
    }
}
