using System.IO.Hashing;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>Turns raw guest memory into the stored bytes of a granule. One per thread; a call allocates nothing.</summary>
public sealed unsafe class GranuleEncoder : IDisposable
{
    private readonly PageCompression _compression;
    private readonly int _level;
    private byte* _scratch; // pages packed for the compressor
    private void* _lz4;
    private nint _zstd;

    /// <summary>Creates an encoder and has the compressor allocate the memory it will need.</summary>
    /// <param name="compression">How to compress the pages.</param>
    /// <param name="zstdLevel">Zstandard's level, −7 (fastest) to 19.</param>
    /// <exception cref="ArgumentOutOfRangeException">An unknown compression or level.</exception>
    public GranuleEncoder(PageCompression compression, int zstdLevel = 1)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)compression, (uint)PageCompression.Zstd, nameof(compression));
        ArgumentOutOfRangeException.ThrowIfLessThan(zstdLevel, -7);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(zstdLevel, 19);
        _compression = compression;
        _level = zstdLevel;
        if (compression == PageCompression.None)
            return;

        _scratch = (byte*)NativeMemory.AlignedAlloc(FormatV1.GranuleSize, FormatV1.PageSize);
        if (compression == PageCompression.Lz4)
        {
            _lz4 = NativeMemory.AlignedAlloc((nuint)Lz4.StateSize(), 64);
        }
        else if ((_zstd = Zstd.CreateCompressor()) == 0)
        {
            Dispose();
            throw new InsufficientMemoryException("ZSTD_createCCtx");
        }
        // Zstandard allocates its work space at the first granule of full size: not in the middle of a capture.
        NativeMemory.Clear(_scratch, FormatV1.GranuleSize);
        byte* sink = stackalloc byte[1024];
        _ = Compress(_scratch, FormatV1.GranuleSize, sink, 1024);
    }

    /// <summary>Packs the non-zero pages and encodes them.</summary>
    /// <param name="source">Raw guest memory; it must not change during the call.</param>
    /// <param name="length">Its bytes, a multiple of 4096 up to 65536.</param>
    /// <param name="destination">Room for 65536 bytes; may be <paramref name="source"/> only without compression.</param>
    /// <returns>The entry with offset 0; all zero if every page is zero, and then nothing is written.</returns>
    /// <exception cref="ArgumentException">The length is wrong, or source and destination are the same while compressing.</exception>
    public GranuleEntry Encode(byte* source, int length, byte* destination)
    {
        if ((uint)length > FormatV1.GranuleSize || length % FormatV1.PageSize != 0)
            throw new ArgumentOutOfRangeException(nameof(length));
        ushort bitmap = ZeroPages.Bitmap(source, length);
        if (bitmap == 0)
            return default;

        int raw = BitOperations.PopCount((uint)bitmap) * FormatV1.PageSize;
        if (_compression == PageCompression.None)
        {
            ZeroPages.Pack(source, bitmap, destination);
            return Seal(destination, bitmap, raw, GranuleEncoding.Raw);
        }
        if (source == destination)
            throw new ArgumentException("compression is not in place", nameof(destination));
        ObjectDisposedException.ThrowIf(_scratch is null, this);

        // Adjacent pages, the common case, are compressed in place.
        int first = BitOperations.TrailingZeroCount((uint)bitmap);
        byte* packed = source + (first * FormatV1.PageSize);
        if (!BitOperations.IsPow2(((uint)bitmap >> first) + 1))
            ZeroPages.Pack(source, bitmap, packed = _scratch);

        // Saving less than a sixteenth is not worth a decoder's time; a small output limit makes the compressor stop early.
        int stored = Compress(packed, raw, destination, raw - (raw / 16));
        if (stored > 0)
            return Seal(destination, bitmap, stored, _compression == PageCompression.Lz4 ? GranuleEncoding.Lz4 : GranuleEncoding.Zstd);
        // SAFETY: raw ≤ 65536, the promised room; packed is the source or our scratch, neither is the destination.
        Unsafe.CopyBlockUnaligned(destination, packed, (uint)raw);
        return Seal(destination, bitmap, raw, GranuleEncoding.Raw);
    }

    /// <summary>Frees the native memory.</summary>
    public void Dispose()
    {
        NativeMemory.AlignedFree(_scratch);
        NativeMemory.AlignedFree(_lz4);
        if (_zstd != 0)
            _ = Zstd.FreeCompressor(_zstd);
        _scratch = null;
        _lz4 = null;
        _zstd = 0;
    }

    private static GranuleEntry Seal(byte* stored, ushort bitmap, int length, GranuleEncoding encoding) =>
        GranuleEntry.Create(0, bitmap, length, encoding, (uint)XxHash3.HashToUInt64(new ReadOnlySpan<byte>(stored, length)));

    // Returns 0 if the output exceeds the limit.
    private int Compress(byte* source, int length, byte* destination, int limit)
    {
        if (_compression == PageCompression.Lz4)
            return Lz4.Compress(_lz4, source, destination, length, limit, 1);
        nuint n = Zstd.Compress(_zstd, destination, (nuint)limit, source, (nuint)length, _level);
        return Zstd.IsError(n) ? 0 : (int)n;
    }
}
