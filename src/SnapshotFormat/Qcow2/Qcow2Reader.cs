using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;
using static Bgsnap.SnapshotFormat.Qcow2.Qcow2Format;

namespace Bgsnap.SnapshotFormat.Qcow2;

/// <summary>
/// Reads an untrusted qcow2 file. It accepts what a snapshot needs and refuses the rest: no backing file, internal snapshots, encryption,
/// compression or unknown features. One L2 table (at most 2 MiB) and the L1 table (at most as long as its part of the file and 32 MiB) are
/// in memory. Not thread-safe.
/// </summary>
internal sealed class Qcow2Reader
{
    private readonly SafeFileHandle _file;
    private readonly string _display;
    private readonly ulong[] _l1;
    private readonly ulong[] _l2;
    private int _l2Index = -1;
    private bool _l2Exists;

    private Qcow2Reader(SafeFileHandle file, long size, string display, Qcow2Header header)
    {
        (_file, FileSize, _display, Header) = (file, size, display, header);
        _l1 = new ulong[header.L1Needed];
        _l2 = new ulong[header.ClusterSize / 8];
        ReadTable(_l1, header.L1Offset);
    }

    /// <summary>Bytes that the guest sees.</summary>
    public long VirtualSize => Header.VirtualSize;

    internal Qcow2Header Header { get; }

    internal long FileSize { get; }

    /// <summary>Checks the header of a file. The caller keeps the handle.</summary>
    /// <param name="file">The file, open for reading.</param>
    /// <param name="size">Its bytes.</param>
    /// <param name="display">Its name in errors.</param>
    /// <exception cref="SnapshotCorruptException">It is not a qcow2 file, or has a backing file, snapshots, encryption, compression, or
    /// features that this program does not know.</exception>
    /// <exception cref="Linux.LinuxException">The file cannot be read.</exception>
    public static Qcow2Reader Open(SafeFileHandle file, long size, string display) =>
        new(file, size, display, Qcow2Header.Read(file, size, display));

    /// <summary>Fills the span from <paramref name="offset"/>, zeros included.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The range extends past the disk's end.</exception>
    /// <exception cref="SnapshotCorruptException">The tables that lead there are wrong.</exception>
    /// <exception cref="Linux.LinuxException">The file cannot be read.</exception>
    public void Read(long offset, Span<byte> into)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, VirtualSize - into.Length);
        while (into.Length > 0)
        {
            int length = (int)Math.Min(Header.ClusterSize - (offset & (Header.ClusterSize - 1)), into.Length);
            long host = HostOffset(offset);
            // Adjacent clusters, as in our own files, are read in one go.
            while (length < into.Length && host >= 0 && HostOffset(offset + length) == host + length)
                length += (int)Math.Min(Header.ClusterSize, into.Length - length);
            if (host < 0)
                into[..length].Clear();
            else
                HostileFile.ReadExactly(_file, into[..length], host, _display);
            offset += length;
            into = into[length..];
        }
    }

    /// <summary>The disk from beginning to end, with adjacent extents of the same kind joined.</summary>
    /// <exception cref="SnapshotCorruptException">The tables are wrong.</exception>
    /// <exception cref="Linux.LinuxException">The file cannot be read.</exception>
    public IEnumerable<DiskExtent> Extents()
    {
        DiskExtent current = default;
        for (long at = 0; at < VirtualSize; )
        {
            DiskExtent next = Piece(at);
            at += next.Length;
            if (current.Length > 0 && current.IsData != next.IsData)
            {
                yield return current;
                current = default;
            }
            current = current.Length == 0 ? next : current with { Length = current.Length + next.Length };
        }
        if (current.Length > 0)
            yield return current;
    }

    /// <summary>Offset of the L2 table of an L1 entry; 0 if the entry has no table.</summary>
    /// <exception cref="SnapshotCorruptException">The table cannot be at that offset.</exception>
    internal long L2Offset(int index)
    {
        ulong entry = _l1[index];
        long at = Header.L1Offset + (index * 8L);
        if ((entry & ~(OffsetMask | Copied)) != 0)
            throw new SnapshotCorruptException(_display, at, $"L1 entry {entry:x16} has bits that must be zero");
        if (entry == 0)
            return 0;
        long offset = (long)(entry & OffsetMask);
        return IsCluster(offset, Header.ClusterSize)
            ? offset
            : throw new SnapshotCorruptException(_display, at, $"an L2 table cannot be at offset {offset}");
    }

    /// <summary>Whether the L1 entry claims a refcount of one for its table.</summary>
    internal bool IsL2Copied(int index) => (_l1[index] & Copied) != 0;

    /// <summary>The raw entry for an offset of the disk, checked; 0 if nothing is stored there.</summary>
    internal ulong Entry(long offset)
    {
        int index = (int)(offset / Header.L2Span);
        LoadL2(index);
        if (!_l2Exists)
            return 0;
        int number = (int)(offset % Header.L2Span >> Header.ClusterBits);
        ulong entry = _l2[number];
        if (entry == 0)
            return 0;
        ulong allowed = OffsetMask | Copied | (Header.Version >= 3 ? Zero : 0);
        long at = L2Offset(index) + (number * 8L),
            host = (long)(entry & OffsetMask);
        if ((entry & Compressed) != 0)
            throw new SnapshotCorruptException(_display, at, "the disk has compressed clusters");
        if ((entry & ~allowed) != 0)
            throw new SnapshotCorruptException(_display, at, $"L2 entry {entry:x16} has bits that must be zero");
        if (host == 0 && (entry & Zero) != 0)
            return entry;
        // The last cluster of a file may be cut short where the disk ends.
        long needed = Math.Min(Header.ClusterSize, VirtualSize - (offset & ~(Header.ClusterSize - 1L)));
        return IsCluster(host, needed) ? entry : throw new SnapshotCorruptException(_display, at, $"a cluster cannot be at offset {host}");
    }

    internal SnapshotCorruptException Wrong(long at, string what) => new(_display, at, what);

    internal void ReadTable(Span<ulong> into, long offset)
    {
        HostileFile.ReadExactly(_file, MemoryMarshal.AsBytes(into), offset, _display);
        BinaryPrimitives.ReverseEndianness(into, into);
    }

    internal void ReadTable(Span<ushort> into, long offset)
    {
        HostileFile.ReadExactly(_file, MemoryMarshal.AsBytes(into), offset, _display);
        BinaryPrimitives.ReverseEndianness(into, into);
    }

    /// <summary>Whether a cluster of which <paramref name="needed"/> bytes are used can begin there.</summary>
    internal bool IsCluster(long offset, long needed) =>
        offset >= Header.ClusterSize && (offset & (Header.ClusterSize - 1)) == 0 && offset <= FileSize - needed;

    // Offset of the byte in the file; -1 if it is zero.
    private long HostOffset(long offset)
    {
        ulong entry = Entry(offset);
        return entry == 0 || (entry & Zero) != 0 ? -1 : (long)(entry & OffsetMask) + (offset & (Header.ClusterSize - 1));
    }

    // One cluster, or the whole span of a missing L2 table.
    private DiskExtent Piece(long at)
    {
        LoadL2((int)(at / Header.L2Span));
        long end = _l2Exists ? at + Header.ClusterSize : (at / Header.L2Span + 1) * Header.L2Span;
        return new DiskExtent(at, Math.Min(end, VirtualSize) - at, _l2Exists && HostOffset(at) >= 0);
    }

    private void LoadL2(int index)
    {
        if (index == _l2Index)
            return;
        _l2Index = -1;
        long offset = L2Offset(index);
        _l2Exists = offset != 0;
        if (_l2Exists)
            ReadTable(_l2, offset);
        _l2Index = index;
    }
}
