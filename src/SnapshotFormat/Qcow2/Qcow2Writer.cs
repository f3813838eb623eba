using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;
using static Bgsnap.SnapshotFormat.Qcow2.Qcow2Format;

namespace Bgsnap.SnapshotFormat.Qcow2;

/// <summary>
/// Writes a qcow2 file from a disk's content in ascending order; Qcow2Format.cs draws the layout. Clusters that are all zero are not
/// stored, so that the file is as small on file systems without holes. Until <see cref="Finish"/> the file has no header and is not a qcow2
/// file, so half a disk cannot be taken for a whole one. Nothing is allocated per call.
/// </summary>
internal sealed unsafe class Qcow2Writer : IDisposable
{
    private readonly SafeFileHandle _file;
    private readonly string _display;
    private readonly long _l1Entries;
    private readonly nuint _l1Bytes;
    private byte* _cluster; // 64 KiB for what is built cluster by cluster: a padded tail, refcounts, the header
    private byte* _l2;
    private byte* _l1;
    private long _span = -1; // the L2 table in memory
    private bool _spanHasData;
    private long _end = ClusterSize;
    private long _written; // the disk is written up to here
    private bool _finished;

    /// <summary>Begins a file.</summary>
    /// <param name="file">Open for writing; it keeps what it holds beyond what is written.</param>
    /// <param name="display">Its name in errors.</param>
    /// <param name="virtualSize">The disk's bytes, a multiple of 512 up to 64 TiB.</param>
    /// <exception cref="ArgumentOutOfRangeException">The size is not valid.</exception>
    public Qcow2Writer(SafeFileHandle file, string display, long virtualSize)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(virtualSize);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(virtualSize, MaxVirtualSize);
        ArgumentOutOfRangeException.ThrowIfNotEqual(virtualSize % SectorSize, 0, nameof(virtualSize));
        (_file, _display, VirtualSize) = (file, display, virtualSize);
        _l1Entries = (virtualSize + L2Span - 1) / L2Span;
        _l1Bytes = (nuint)RoundUp(_l1Entries * 8);
        // At most 1 MiB for the L1 table of 64 TiB.
        _cluster = NativeMemoryMap.Allocate(ClusterSize);
        _l2 = NativeMemoryMap.Allocate(ClusterSize);
        _l1 = NativeMemoryMap.Allocate(Math.Max(_l1Bytes, ClusterSize));
    }

    /// <summary>Bytes that the guest sees.</summary>
    public long VirtualSize { get; }

    /// <summary>Bytes of the clusters stored so far.</summary>
    public long DataBytes { get; private set; }

    /// <summary>Writes an empty disk: header, an L1 table of full size, refcounts; a few clusters.</summary>
    /// <exception cref="LinuxException">The file cannot be written.</exception>
    public static void WriteEmpty(SafeFileHandle file, long virtualSize, string display)
    {
        using Qcow2Writer writer = new(file, display, virtualSize);
        _ = writer.Finish();
    }

    /// <summary>Stores a run of the disk. The gaps between runs are zero.</summary>
    /// <param name="offset">Where it begins: a multiple of 64 KiB at or after the end of the last run.</param>
    /// <param name="data">Its bytes.</param>
    /// <param name="length">How many: a multiple of 64 KiB, except for a run that ends with the disk.</param>
    /// <exception cref="ArgumentException">The offset or length is not valid.</exception>
    /// <exception cref="LinuxException">The file cannot be written.</exception>
    public void Write(long offset, byte* data, int length)
    {
        ObjectDisposedException.ThrowIf(_l1 is null, this);
        if (_finished || offset < _written || offset % ClusterSize != 0)
            throw new ArgumentException($"{offset} does not come next", nameof(offset));
        if (length < 0 || offset > VirtualSize - length || (length % ClusterSize != 0 && offset + length != VirtualSize))
            throw new ArgumentException($"{length} bytes are not whole clusters of the disk", nameof(length));
        _written = RoundUp(offset + length);
        while (length >= ClusterSize)
        {
            EnterSpan(offset / L2Span);
            // Data that is not zero, up to the end of the L2 table's span, goes out in one piece.
            int room = (int)Math.Min(length, ((_span + 1) * L2Span) - offset),
                run = 0;
            while (run + ClusterSize <= room && !IsZero(data + run))
                run += ClusterSize;
            if (run > 0)
                Store(offset, data, run);
            else
                run = ClusterSize;
            offset += run;
            data += run;
            length -= run;
        }
        if (length == 0)
            return;
        EnterSpan(offset / L2Span);
        // SAFETY: length < ClusterSize, the size of the buffer.
        Unsafe.CopyBlockUnaligned(_cluster, data, (uint)length);
        new Span<byte>(_cluster + length, ClusterSize - length).Clear();
        if (!IsZero(_cluster))
            Store(offset, _cluster, ClusterSize);
    }

    /// <summary>Writes the tables and, last, the header. The caller must sync what has to be durable.</summary>
    /// <returns>The file's size in bytes.</returns>
    /// <exception cref="LinuxException">The file cannot be written.</exception>
    public long Finish()
    {
        ObjectDisposedException.ThrowIf(_l1 is null, this);
        if (_finished)
            throw new InvalidOperationException("finished before");
        _finished = true;
        FlushL2();
        long l1 = Append(_l1, (long)_l1Bytes);
        (long table, long tableClusters) = WriteRefcounts();
        WriteHeader(l1, table, tableClusters);
        return _end;
    }

    /// <summary>Frees the memory. The caller owns the file.</summary>
    public void Dispose()
    {
        if (_l1 is null)
            return;
        NativeMemoryMap.Free(_cluster, ClusterSize);
        NativeMemoryMap.Free(_l2, ClusterSize);
        NativeMemoryMap.Free(_l1, Math.Max(_l1Bytes, ClusterSize));
        _cluster = _l2 = _l1 = null;
    }

    private void Store(long offset, byte* data, int length)
    {
        long at = Append(data, length);
        DataBytes += length;
        _spanHasData = true;
        int entry = (int)(offset % L2Span / ClusterSize);
        for (int done = 0; done < length; done += ClusterSize, entry++)
            Put(_l2, entry, (ulong)(at + done) | Copied);
    }

    private void EnterSpan(long span)
    {
        if (span == _span)
            return;
        FlushL2();
        _span = span;
    }

    private void FlushL2()
    {
        if (!_spanHasData)
            return;
        Put(_l1, _span, (ulong)Append(_l2, ClusterSize) | Copied);
        new Span<byte>(_l2, ClusterSize).Clear();
        _spanHasData = false;
    }

    /// <summary>Counts every cluster of the file once, those of the refcounts included.</summary>
    private (long Offset, long Clusters) WriteRefcounts()
    {
        long used = _end / ClusterSize,
            blocks = 0,
            tableClusters = 0,
            total;
        while (true)
        {
            total = used + blocks + tableClusters;
            long needed = (total + RefcountsPerBlock - 1) / RefcountsPerBlock,
                neededTable = (needed + EntriesPerL2 - 1) / EntriesPerL2;
            if (needed == blocks && neededTable == tableClusters)
                break;
            (blocks, tableClusters) = (needed, neededTable);
        }
        long first = _end;
        Span<ushort> counts = new(_cluster, RefcountsPerBlock);
        counts.Fill(BinaryPrimitives.ReverseEndianness((ushort)1));
        for (long block = 0; block < blocks; block++)
        {
            if (block == blocks - 1)
                counts[(int)(total - (block * RefcountsPerBlock))..].Clear();
            _ = Append(_cluster, ClusterSize);
        }
        long table = _end;
        for (long block = 0; block < blocks; )
        {
            new Span<byte>(_cluster, ClusterSize).Clear();
            for (int entry = 0; entry < EntriesPerL2 && block < blocks; entry++, block++)
                Put(_cluster, entry, (ulong)(first + (block * ClusterSize)));
            _ = Append(_cluster, ClusterSize);
        }
        return (table, tableClusters);
    }

    private void WriteHeader(long l1, long table, long tableClusters)
    {
        Span<byte> h = new(_cluster, ClusterSize);
        h.Clear();
        BinaryPrimitives.WriteUInt32BigEndian(h, Magic);
        BinaryPrimitives.WriteUInt32BigEndian(h[4..], 3);
        BinaryPrimitives.WriteUInt32BigEndian(h[20..], ClusterBits);
        BinaryPrimitives.WriteInt64BigEndian(h[24..], VirtualSize);
        BinaryPrimitives.WriteUInt32BigEndian(h[36..], (uint)_l1Entries);
        BinaryPrimitives.WriteInt64BigEndian(h[40..], l1);
        BinaryPrimitives.WriteInt64BigEndian(h[48..], table);
        BinaryPrimitives.WriteUInt32BigEndian(h[56..], (uint)tableClusters);
        BinaryPrimitives.WriteUInt32BigEndian(h[96..], 4); // refcounts of 2⁴ bits
        BinaryPrimitives.WriteUInt32BigEndian(h[100..], HeaderLength);
        FileSyscalls.WriteAll(_file, _cluster, ClusterSize, 0, _display);
    }

    private long Append(byte* data, long length)
    {
        long at = _end;
        FileSyscalls.WriteAll(_file, data, (nuint)length, at, _display);
        _end += length;
        return at;
    }

    private static bool IsZero(byte* cluster)
    {
        for (int page = 0; page < ClusterSize; page += FormatV1.PageSize)
            if (!ZeroPages.IsZero(cluster + page))
                return false;
        return true;
    }

    private static void Put(byte* table, long entry, ulong value) =>
        BinaryPrimitives.WriteUInt64BigEndian(new Span<byte>(table + (entry * 8), 8), value);

    private static long RoundUp(long bytes) => (bytes + ClusterSize - 1) & ~(ClusterSize - 1L);
}
