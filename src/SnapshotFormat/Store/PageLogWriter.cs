using System.IO.Hashing;
using System.Runtime.InteropServices;
using Bgsnap.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>The summary of a written page log.</summary>
/// <param name="FileSize">Bytes of the file.</param>
/// <param name="Granules">Number of granules of all blocks.</param>
/// <param name="StoredGranules">Number of granules with stored pages.</param>
/// <param name="StoredPages">Number of stored pages.</param>
/// <param name="ZeroPages">Number of pages not stored.</param>
/// <param name="StoredBytes">Sum of all stored lengths.</param>
/// <param name="Checksum">For the manifest: <c>bgsnplog:</c> and 32 hex digits.</param>
public sealed record PageLogSummary(
    long FileSize,
    long Granules,
    long StoredGranules,
    long StoredPages,
    long ZeroPages,
    long StoredBytes,
    string Checksum
);

/// <summary>
/// Writes the file <c>memory</c>: the header at once, runs in any order from any thread, index and footer at the end. After a failed write
/// <see cref="Finish"/> refuses, so a log with a gap is never called complete.
/// </summary>
public sealed unsafe class PageLogWriter : IDisposable
{
    private readonly SafeFileHandle _file;
    private readonly string _path;
    private readonly IReadOnlyList<RamBlockLayout> _blocks;
    private readonly Guid _id;
    private readonly int _headerLength;
    private readonly ulong _headerChecksum;
    private long _next; // first byte not reserved
    private long _written; // bytes of runs written
    private long _runs; // runs reserved
    private volatile bool _direct;
    private volatile bool _failed;
    private bool _finished;

    internal PageLogWriter(SafeFileHandle file, string path, IReadOnlyList<RamBlockLayout> blocks, PageCompression compression, Guid id)
    {
        (_file, _path, _blocks, _id) = (file, path, blocks, id);
        byte[] header = PageLogHeader.Write(id, compression, blocks);
        _headerLength = header.Length;
        _headerChecksum = XxHash3.HashToUInt64(header.AsSpan(0, header.Length - 8));
        // Set on the open file rather than at open: a refused O_DIRECT with O_CREAT would leave the new file behind.
        _direct = FileSyscalls.TrySetDirect(file, direct: true);
        byte* aligned = (byte*)NativeMemory.AlignedAlloc((nuint)header.Length, FormatV1.Alignment);
        try
        {
            header.CopyTo(new Span<byte>(aligned, header.Length));
            Write(aligned, (nuint)header.Length, 0);
        }
        finally
        {
            NativeMemory.AlignedFree(aligned);
        }
        _next = header.Length;
    }

    /// <summary>Whether the file is written with O_DIRECT, past the page cache; false if the file system does not support it.</summary>
    public bool Direct => _direct;

    /// <summary>Creates the file (mode 0600; it must not exist) and writes the header.</summary>
    /// <param name="path">The file.</param>
    /// <param name="blocks">RAM blocks in index order; at most 4096, at most 16 TiB in sum.</param>
    /// <param name="compression">Recorded in the header; the granules are encoded by the callers.</param>
    /// <param name="id">Snapshot id.</param>
    /// <exception cref="ArgumentException">The blocks break the format's limits.</exception>
    /// <exception cref="LinuxException">The file exists, or cannot be written.</exception>
    public static PageLogWriter Create(string path, IReadOnlyList<RamBlockLayout> blocks, PageCompression compression, Guid id) =>
        CreateIn(null, path, path, blocks, compression, id);

    internal static PageLogWriter CreateIn(
        SafeFileHandle? directory,
        string name,
        string display,
        IReadOnlyList<RamBlockLayout> blocks,
        PageCompression compression,
        Guid id
    )
    {
        ArgumentNullException.ThrowIfNull(blocks);
        const int Flags = FileSyscalls.O_RDWR | FileSyscalls.O_CREAT | FileSyscalls.O_EXCL | FileSyscalls.O_NOFOLLOW;
        SafeFileHandle file = FileSyscalls.OpenAt(
            directory,
            name,
            Flags,
            0x180 /* 0600 */
            ,
            display
        );
        try
        {
            return new PageLogWriter(file, display, blocks, compression, id);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Reserves the place of a new run. Thread-safe. The run must be filled to within 4096 bytes of its end.</summary>
    /// <param name="length">Bytes, a positive multiple of 4096.</param>
    /// <returns>Its offset in the file, for the entries and <see cref="WriteRun"/>.</returns>
    public long Reserve(int length)
    {
        if (length <= 0 || length % FormatV1.Alignment != 0)
            throw new ArgumentOutOfRangeException(nameof(length));
        Interlocked.Increment(ref _runs);
        return Interlocked.Add(ref _next, length) - length;
    }

    /// <summary>Writes a whole reserved run. Thread-safe for distinct runs; each is written once.</summary>
    /// <param name="data">At a 4096-byte boundary; stored bytes, one granule after another, then zeros up to the end.</param>
    /// <param name="length">The reserved length.</param>
    /// <param name="offset">The offset that <see cref="Reserve"/> returned.</param>
    /// <exception cref="LinuxException">The write failed; the message says so if the volume is full.</exception>
    public void WriteRun(byte* data, int length, long offset)
    {
        if (length <= 0 || length % FormatV1.Alignment != 0)
            throw new ArgumentOutOfRangeException(nameof(length));
        if ((nuint)data % FormatV1.Alignment != 0)
            throw new ArgumentException("not at a 4096-byte boundary", nameof(data));
        if (offset < _headerLength || offset % FormatV1.Alignment != 0 || offset > Volatile.Read(ref _next) - length)
            throw new ArgumentOutOfRangeException(nameof(offset));
        Write(data, (nuint)length, offset);
        Interlocked.Add(ref _written, length);
    }

    /// <summary>Writes index and footer and makes the file durable. All runs must have been written and all entries set.</summary>
    /// <param name="index">Where each granule is.</param>
    /// <param name="ledger">What happened to each granule.</param>
    /// <param name="copied">The number of granules that were to be copied.</param>
    /// <exception cref="InvalidOperationException">An earlier write failed, a copied granule is not in the file, a reserved run was not
    /// written, or an entry points outside the runs.</exception>
    /// <exception cref="LinuxException">A write or fsync failed.</exception>
    public PageLogSummary Finish(GranuleIndex index, GranuleLedger ledger, long copied)
    {
        ArgumentNullException.ThrowIfNull(index);
        ArgumentNullException.ThrowIfNull(ledger);
        if (_failed || _finished)
            throw new InvalidOperationException($"{_path}: {(_failed ? "a write failed" : "already finished")}");
        if (index.Count != RamBlockLayout.TotalGranules(_blocks))
            throw new ArgumentException("the index is of other blocks", nameof(index));
        if (_next - _headerLength != _written)
            throw new InvalidOperationException($"{_path}: {_next - _headerLength} bytes of runs were reserved, {_written} written");
        if (ledger.Problem(index, copied) is { } lost)
            throw new InvalidOperationException($"{_path}: {lost}");
        _finished = true;

        PageLogFooter footer = Count(index);
        // Each run may end with less than 4096 bytes of padding: any other difference means that data was lost or used twice.
        if (footer.StoredBytes > _written || _written - footer.StoredBytes > _runs * (FormatV1.Alignment - 1L))
            throw new InvalidOperationException($"{_path}: {_runs} runs of {_written} bytes do not hold {footer.StoredBytes} stored bytes");
        WriteIndex(index, footer.IndexOffset);
        byte* page = (byte*)NativeMemory.AlignedAlloc(PageLogFooter.Size, FormatV1.Alignment);
        try
        {
            var span = new Span<byte>(page, PageLogFooter.Size);
            footer.Write(span);
            Write(page, PageLogFooter.Size, footer.IndexOffset + footer.IndexLength);
            FileSyscalls.Sync(_file, _path);
            return new PageLogSummary(
                footer.IndexOffset + footer.IndexLength + PageLogFooter.Size,
                index.Count,
                footer.StoredGranules,
                footer.StoredPages,
                footer.ZeroPages,
                footer.StoredBytes,
                PageLogFooter.ManifestChecksum(span)
            );
        }
        finally
        {
            NativeMemory.AlignedFree(page);
        }
    }

    /// <summary>Closes the file. Without <see cref="Finish"/> the file stays incomplete.</summary>
    public void Dispose() => _file.Dispose();

    private PageLogFooter Count(GranuleIndex index)
    {
        long granules = 0,
            pages = 0,
            bytes = 0,
            allPages = 0;
        for (int b = 0; b < _blocks.Count; b++)
        {
            ulong used = _blocks[b].UsedLength;
            allPages += (long)(used / FormatV1.PageSize);
            for (long g = 0, first = index.FirstGranule(b); g < FormatV1.GranuleCount(used); g++)
            {
                GranuleEntry e = index.Get(first + g);
                if (e.IsZero)
                    continue;
                if (e.Problem(FormatV1.GranuleLength(used, g), _headerLength, _next) is { } problem)
                    throw new InvalidOperationException($"{_path}: granule {g} of {_blocks[b].Name}: {problem}");
                granules++;
                pages += e.PageCount;
                bytes += e.StoredLength;
            }
        }
        // SAFETY: the index owns ByteLength bytes until it is disposed, which is after this call.
        var hash = new XxHash3();
        for (long at = 0; at < index.ByteLength; at += IndexPart)
            hash.Append(new ReadOnlySpan<byte>(index.Bytes + at, (int)Math.Min(IndexPart, index.ByteLength - at)));
        return new PageLogFooter(
            _next,
            index.ByteLength,
            hash.GetCurrentHashAsUInt64(),
            _headerChecksum,
            _id,
            granules,
            pages,
            allPages - pages,
            bytes
        );
    }

    private const int IndexPart = 1 << 20;

    // Zero parts stay holes: the index of a mostly empty machine takes no space.
    private void WriteIndex(GranuleIndex index, long offset)
    {
        for (long at = 0; at < index.ByteLength; )
        {
            long start = at;
            while (at < index.ByteLength && at - start < IndexPart && !ZeroPages.IsZero(index.Bytes + at))
                at += FormatV1.Alignment;
            if (at > start)
                Write(index.Bytes + start, (nuint)(at - start), offset + start);
            else
                at += FormatV1.Alignment;
        }
    }

    private void Write(byte* data, nuint length, long offset)
    {
        try
        {
            FileSyscalls.WriteAll(_file, data, length, offset, _path);
        }
        catch (LinuxException e) when (e.Errno == Errno.EINVAL && _direct)
        {
            // Some file systems accept the flag but not the write (larger alignment, a remainder after a short write).
            _direct = false;
            _ = FileSyscalls.TrySetDirect(_file, direct: false);
            Write(data, length, offset);
        }
        catch
        {
            _failed = true;
            throw;
        }
    }
}
