using Bgsnap.Linux;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>
/// The entries of every granule of every block, in the file's layout. The index has its own anonymous memory, so ranges without a stored
/// granule cost nothing. Several threads may set and read distinct granules at once.
/// </summary>
public sealed unsafe class GranuleIndex : IDisposable
{
    private readonly long[] _first;
    private GranuleEntry* _entries;

    /// <summary>Creates an index in which every granule is zero.</summary>
    /// <exception cref="ArgumentException">The blocks break the format's limits.</exception>
    /// <exception cref="LinuxException">There is no address space.</exception>
    public GranuleIndex(IReadOnlyList<RamBlockLayout> blocks)
    {
        ArgumentNullException.ThrowIfNull(blocks);
        if (RamBlockLayout.Problem(blocks) is { } problem)
            throw new ArgumentException(problem, nameof(blocks));
        _first = new long[blocks.Count];
        for (int i = 0; i < blocks.Count; i++)
        {
            _first[i] = Count;
            Count += FormatV1.GranuleCount(blocks[i].UsedLength);
        }
        ByteLength = FormatV1.Align(Count * FormatV1.EntrySize);
        // An index without granules still needs an address: one page.
        _entries = (GranuleEntry*)NativeMemoryMap.Allocate(MappedLength);
    }

    /// <summary>Number of granules of all blocks.</summary>
    public long Count { get; }

    /// <summary>Bytes in the file: the entries, zero-padded to a multiple of 4096.</summary>
    public long ByteLength { get; }

    /// <summary>The bytes as in the file; valid until disposed.</summary>
    internal byte* Bytes => (byte*)Live;

    private nuint MappedLength => (nuint)Math.Max(ByteLength, FormatV1.Alignment);

    private GranuleEntry* Live
    {
        get
        {
            ObjectDisposedException.ThrowIf(_entries is null, this);
            return _entries;
        }
    }

    /// <summary>Number of the first granule of a block (its position in header order).</summary>
    public long FirstGranule(int block) => _first[block];

    /// <summary>Sets a granule's entry.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The granule does not exist.</exception>
    public void Set(long granule, GranuleEntry e)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((ulong)granule, (ulong)Count, nameof(granule));
        // SAFETY: below Count, checked above; the mapping holds Count entries until Dispose.
        Live[granule] = e;
    }

    /// <summary>A granule's entry; all zero until set.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The granule does not exist.</exception>
    public GranuleEntry Get(long granule)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((ulong)granule, (ulong)Count, nameof(granule));
        // SAFETY: as in Set.
        return Live[granule];
    }

    /// <summary>
    /// The first granule between <paramref name="from"/> and <paramref name="end"/> whose entry is not all zero; <paramref name="end"/> if
    /// there is no such granule.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The granules do not exist.</exception>
    internal long NextSet(long from, long end)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((ulong)end, (ulong)Count, nameof(end));
        ArgumentOutOfRangeException.ThrowIfGreaterThan((ulong)from, (ulong)end, nameof(from));
        const int atOnce = 1 << 20;
        for (long at = from; at < end; at += atOnce)
        {
            // SAFETY: as in Set; the span ends at or before granule `end`.
            ReadOnlySpan<byte> entries = new(Live + at, (int)Math.Min(atOnce, end - at) * FormatV1.EntrySize);
            int set = entries.IndexOfAnyExcept((byte)0);
            if (set >= 0)
                return at + set / FormatV1.EntrySize;
        }
        return end;
    }

    /// <summary>Frees the memory. No other thread may still use the index.</summary>
    public void Dispose()
    {
        if (_entries is null)
            return;
        NativeMemoryMap.Free((byte*)_entries, MappedLength);
        _entries = null;
    }
}
