using Bgsnap.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>What a page log must be, if the caller knows it from elsewhere (the manifest).</summary>
/// <param name="Id">Snapshot id; null: any.</param>
/// <param name="Size">Bytes of the file; null: any.</param>
/// <param name="Checksum">Checksum of the footer, as in the manifest; null: any.</param>
public sealed record PageLogExpectation(Guid? Id = null, long? Size = null, string? Checksum = null);

/// <summary>
/// Reads the file <c>memory</c>. Opening checks header, footer and index; a granule's bytes are checked when read.
/// Random access: one array look-up and one read per granule. All methods are thread-safe.
/// </summary>
public sealed unsafe class PageLogReader : IDisposable
{
    private volatile SafeFileHandle _file;
    private volatile bool _failed;
    private readonly string _path;
    private readonly GranuleIndex _index;

    private PageLogReader(SafeFileHandle file, string path, PageLogHeader header, PageLogFooter footer, GranuleIndex index, string checksum)
    {
        (_file, _path, Header, Footer, _index, Checksum) = (file, path, header, footer, index, checksum);
    }

    /// <summary>The header.</summary>
    public PageLogHeader Header { get; }

    /// <summary>The footer.</summary>
    public PageLogFooter Footer { get; }

    /// <summary>The footer's checksum as the manifest states it.</summary>
    public string Checksum { get; }

    /// <summary>RAM blocks in index order.</summary>
    public IReadOnlyList<RamBlockLayout> Blocks => Header.Blocks;

    /// <summary>Opens and checks a page log.</summary>
    /// <param name="path">The file; a symbolic link is refused.</param>
    /// <param name="expect">What it must be; null: any sound page log.</param>
    /// <exception cref="SnapshotCorruptException">It is damaged or cut short, is not a page log, or is not the expected one.</exception>
    /// <exception cref="LinuxException">It cannot be opened or read.</exception>
    public static PageLogReader Open(string path, PageLogExpectation? expect = null) => OpenIn(null, path, path, expect);

    internal static PageLogReader OpenIn(SafeFileHandle? directory, string name, string display, PageLogExpectation? expect)
    {
        SafeFileHandle file = HostileFile.Open(directory, name, display, out long size);
        GranuleIndex? index = null;
        try
        {
            if (expect?.Size is { } wanted && wanted != size)
                throw new SnapshotCorruptException(
                    display,
                    Math.Min(size, wanted),
                    $"the file has {size} bytes, the manifest says {wanted}"
                );
            PageLogHeader header = PageLogParts.ReadHeader(file, display, size);
            PageLogFooter footer = PageLogParts.ReadFooter(file, display, size, out string checksum);
            footer.CheckAgainst(header, display, size);
            if (expect?.Id is { } id && id != header.Id)
                throw new SnapshotCorruptException(display, 40, $"the file is of snapshot {header.Id}, not {id}");
            if (expect?.Checksum is { } sum && sum != checksum)
                throw new SnapshotCorruptException(
                    display,
                    footer.IndexOffset + footer.IndexLength,
                    "the footer is not the one that the manifest names"
                );
            index = PageLogParts.ReadIndex(file, display, header, footer, out string? problem);
            if (problem is not null)
                throw new SnapshotCorruptException(display, footer.IndexOffset, problem);
            return new PageLogReader(file, display, header, footer, index, checksum);
        }
        catch
        {
            index?.Dispose();
            file.Dispose();
            throw;
        }
    }

    /// <summary>Number of granules of a block.</summary>
    public long GranuleCount(int block) => FormatV1.GranuleCount(Blocks[block].UsedLength);

    /// <summary>Bytes of a granule: 65536, or less for the last of a block.</summary>
    public int GranuleLength(int block, long granuleInBlock) => FormatV1.GranuleLength(Blocks[block].UsedLength, granuleInBlock);

    /// <summary>The checked entry of a granule.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The granule does not exist.</exception>
    /// <exception cref="SnapshotCorruptException">The entry is invalid.</exception>
    public GranuleEntry Entry(int block, long granuleInBlock)
    {
        ulong used = Blocks[block].UsedLength;
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(
            (ulong)granuleInBlock,
            (ulong)FormatV1.GranuleCount(used),
            nameof(granuleInBlock)
        );
        long granule = _index.FirstGranule(block) + granuleInBlock;
        GranuleEntry e = _index.Get(granule);
        if (e.Problem(FormatV1.GranuleLength(used, granuleInBlock), Header.Length, Footer.IndexOffset) is { } problem)
            throw new SnapshotCorruptException(_path, Footer.IndexOffset + (granule * FormatV1.EntrySize), problem);
        return e;
    }

    /// <summary>Which 4 KiB pages of a granule are stored; the others are zero. Reads no data.</summary>
    public ushort PageBitmap(int block, long granuleInBlock) => Entry(block, granuleInBlock).PageBitmap;

    /// <summary>
    /// The first granule, from the given one on, that may have stored pages; the block's number of granules if all the rest are zero. Fast,
    /// however long that range is.
    /// </summary>
    internal long NextStored(int block, long granuleInBlock)
    {
        long first = _index.FirstGranule(block);
        return _index.NextSet(first + granuleInBlock, first + GranuleCount(block)) - first;
    }

    /// <summary>Reads, checks and decodes a granule.</summary>
    /// <param name="block">The block, in index order.</param>
    /// <param name="granuleInBlock">The granule, from 0.</param>
    /// <param name="destination">65536 bytes; all are written, zeros beyond the block's end.</param>
    /// <param name="decoder">A decoder that only this thread uses.</param>
    /// <exception cref="ArgumentOutOfRangeException">The granule does not exist.</exception>
    /// <exception cref="SnapshotCorruptException">Entry or stored bytes are damaged.</exception>
    /// <exception cref="LinuxException">The read failed.</exception>
    public void ReadGranule(int block, long granuleInBlock, byte* destination, GranuleDecoder decoder)
    {
        ArgumentNullException.ThrowIfNull(decoder);
        GranuleEntry e = Entry(block, granuleInBlock);
        if (ReadStored(e, GranuleLength(block, granuleInBlock), destination, decoder) is { } problem)
            throw new SnapshotCorruptException(_path, e.Offset, $"granule {granuleInBlock} of block {Blocks[block].Name}: {problem}");
    }

    private string? ReadStored(GranuleEntry e, int length, byte* destination, GranuleDecoder decoder)
    {
        while (true)
        {
            SafeFileHandle file = _file;
            try
            {
                return PageLogParts.ReadGranule(file, _path, e, length, destination, decoder);
            }
            catch (LinuxException)
            {
                _failed = true;
                throw;
            }
            catch (ObjectDisposedException) when (file == _file)
            {
                throw new IOException($"{_path}: its volume failed, and has not come back");
            }
            catch (ObjectDisposedException)
            {
                // Another thread has exchanged the file meanwhile.
            }
        }
    }

    /// <summary>
    /// Takes over the file that another reader has open and gives it this reader's own; false if that is not the same page log.
    /// </summary>
    internal bool TryExchangeFile(PageLogReader other)
    {
        if (other.Header.Id != Header.Id || other.Checksum != Checksum)
            return false;
        (_file, other._file) = (other._file, _file);
        _failed = false;
        return true;
    }

    /// <summary>
    /// Closes the file if it could not be read: a dead, unmounted volume disappears, and can be mounted again, only when no process has a
    /// file on it open.
    /// </summary>
    internal void CloseIfFailed()
    {
        if (_failed)
            _file.Dispose();
    }

    /// <summary>Closes the file and frees the index. No other thread may still read.</summary>
    public void Dispose()
    {
        _index.Dispose();
        _file.Dispose();
    }
}
