using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>Finds the pages that are not zero, and packs and spreads them.</summary>
internal static unsafe class ZeroPages
{
    private const int PageSize = FormatV1.PageSize;

    /// <summary>Bit i: page i of <paramref name="length"/> bytes (a multiple of 4096, ≤ 65536) is not all zero.</summary>
    public static ushort Bitmap(byte* source, int length)
    {
        uint bitmap = 0;
        for (int page = 0; page < length / PageSize; page++)
            if (!IsZero(source + (page * PageSize)))
                bitmap |= 1u << page;
        return (ushort)bitmap;
    }

    /// <summary>Whether the 4096 bytes are zero.</summary>
    public static bool IsZero(byte* page)
    {
        // SAFETY: the caller owns 4096 bytes; the loop reads 64 at a time up to there.
        for (byte* end = page + PageSize; page < end; page += 64)
        {
            Vector128<byte> or = Vector128.Load(page) | Vector128.Load(page + 16) | Vector128.Load(page + 32) | Vector128.Load(page + 48);
            if (or != Vector128<byte>.Zero)
                return false;
        }
        return true;
    }

    /// <summary>Copies the pages of the bitmap one after another. <paramref name="destination"/> may be the source itself.</summary>
    public static void Pack(byte* source, ushort bitmap, byte* destination)
    {
        // Ascending, so a page never overwrites one that is still to be read: its destination is at or before its source.
        for (uint rest = bitmap; rest != 0; rest &= rest - 1, destination += PageSize)
        {
            byte* from = source + (BitOperations.TrailingZeroCount(rest) * PageSize);
            if (from != destination)
                Unsafe.CopyBlockUnaligned(destination, from, PageSize);
        }
    }

    /// <summary>The inverse of <see cref="Pack"/> in place: spreads the packed pages at the start of the 65536 bytes over
    /// their places and zeroes all others.</summary>
    public static void Spread(byte* granule, ushort bitmap)
    {
        // Descending, for the mirrored reason.
        int packed = BitOperations.PopCount((uint)bitmap) - 1;
        for (int page = FormatV1.PagesPerGranule - 1; page >= 0; page--)
        {
            byte* to = granule + (page * PageSize);
            if ((bitmap >> page & 1) == 0)
            {
                // Zeroing is safe: of the pages below at most `page` are stored, so those yet to be moved end before this one.
                Unsafe.InitBlockUnaligned(to, 0, PageSize);
                continue;
            }
            if (packed != page)
                Unsafe.CopyBlockUnaligned(to, granule + (packed * PageSize), PageSize);
            packed--;
        }
    }
}
