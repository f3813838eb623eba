using System.Numerics;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>The 16-byte index entry of one granule. All zero means: every page of the granule is zero.</summary>
/// <param name="Lo">Bits 0–47 offset, 48–63 page bitmap.</param>
/// <param name="Hi">Bits 0–31 checksum, 32–48 stored length, 49–51 encoding, 52–63 zero.</param>
public readonly record struct GranuleEntry(ulong Lo, ulong Hi)
{
    private const int BitmapShift = 48,
        LengthShift = 32,
        EncodingShift = 49,
        ReservedShift = 52;
    private const ulong OffsetMask = (1UL << BitmapShift) - 1;
    private const ulong LengthMask = (1UL << (EncodingShift - LengthShift)) - 1;
    private const ulong EncodingMask = 7;

    /// <summary>Offset of the stored bytes, from the file's start.</summary>
    public long Offset => (long)(Lo & OffsetMask);

    /// <summary>Bit i is set if 4 KiB page i of the granule is stored; the other pages are zero.</summary>
    public ushort PageBitmap => (ushort)(Lo >> BitmapShift);

    /// <summary>Stored bytes, 0 to 65536 in a sound entry.</summary>
    public int StoredLength => (int)((Hi >> LengthShift) & LengthMask);

    /// <summary>The encoding of the stored bytes; values above 3 are corrupt.</summary>
    public GranuleEncoding Encoding => (GranuleEncoding)((Hi >> EncodingShift) & EncodingMask);

    /// <summary>Low 32 bits of the XXH3-64 of the stored bytes.</summary>
    public uint Checksum => (uint)Hi;

    /// <summary>Whether nothing is stored.</summary>
    public bool IsZero => (Lo | Hi) == 0;

    /// <summary>Number of stored pages.</summary>
    public int PageCount => BitOperations.PopCount((uint)PageBitmap);

    /// <summary>Bytes of the stored pages before encoding.</summary>
    public int RawLength => PageCount * FormatV1.PageSize;

    /// <summary>Packs an entry.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The offset has more than 48 bits or the length is not 0 to 65536.</exception>
    public static GranuleEntry Create(long offset, ushort pageBitmap, int storedLength, GranuleEncoding encoding, uint checksum)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((ulong)offset, OffsetMask, nameof(offset));
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)storedLength, (uint)FormatV1.GranuleSize, nameof(storedLength));
        return new GranuleEntry(
            (ulong)offset | ((ulong)pageBitmap << BitmapShift),
            checksum | ((ulong)storedLength << LengthShift) | (((ulong)encoding & EncodingMask) << EncodingShift)
        );
    }

    /// <summary>The same entry with its bytes at <paramref name="offset"/>. A zero entry stays all zero.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The offset has more than 48 bits.</exception>
    public GranuleEntry WithOffset(long offset)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((ulong)offset, OffsetMask, nameof(offset));
        return IsZero ? this : this with { Lo = (Lo & ~OffsetMask) | (ulong)offset };
    }

    /// <summary>What makes the entry invalid, or null.</summary>
    /// <param name="granuleLength">Bytes of the granule: 65536, or less for the last of a block.</param>
    /// <param name="dataStart">First byte that runs may use.</param>
    /// <param name="dataEnd">First byte after the runs.</param>
    internal string? Problem(int granuleLength, long dataStart, long dataEnd)
    {
        if (IsZero)
            return null;
        if (Hi >> ReservedShift != 0)
            return "reserved bits of an index entry are set";
        if (PageBitmap == 0)
            return "an index entry stores bytes but no page";
        if (PageBitmap >> (granuleLength / FormatV1.PageSize) != 0)
            return "an index entry stores pages beyond its block's end";
        int length = StoredLength;
        switch (Encoding)
        {
            case GranuleEncoding.Raw when length != RawLength:
                return $"{PageCount} raw pages cannot be {length} bytes";
            case GranuleEncoding.Lz4 or GranuleEncoding.Zstd when length == 0 || length >= RawLength:
                return $"{PageCount} compressed pages cannot be {length} bytes";
            case GranuleEncoding.Zero or > GranuleEncoding.Zstd:
                return $"encoding {(int)Encoding} does not exist";
        }
        // Offset has 48 bits and length 17: the sum cannot wrap.
        return Offset < dataStart || Offset + length > dataEnd
            ? $"stored bytes {Offset}..{Offset + length} lie outside the runs, {dataStart}..{dataEnd}"
            : null;
    }
}
