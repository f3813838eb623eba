using System.Buffers.Binary;
using System.IO.Hashing;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>
/// Turns the stored bytes of a granule back into memory, trusting neither entry nor bytes. One per thread; a call allocates nothing.
/// </summary>
public sealed unsafe class GranuleDecoder : IDisposable
{
    private nint _zstd;
    private byte* _scratch;

    /// <summary>Creates a decoder.</summary>
    public GranuleDecoder()
    {
        _scratch = (byte*)NativeMemory.AlignedAlloc(FormatV1.GranuleSize, FormatV1.PageSize);
        _zstd = Zstd.CreateDecompressor();
        if (_zstd != 0)
            return;
        Dispose();
        throw new InsufficientMemoryException("ZSTD_createDCtx");
    }

    /// <summary>65536 bytes for the stored form of the granule being read.</summary>
    internal byte* Scratch
    {
        get
        {
            ObjectDisposedException.ThrowIf(_scratch is null, this);
            return _scratch;
        }
    }

    /// <summary>Checks and decodes a granule.</summary>
    /// <param name="e">Its entry.</param>
    /// <param name="stored">The stored bytes, exactly <see cref="GranuleEntry.StoredLength"/> of them.</param>
    /// <param name="granuleLength">Bytes of the granule, a multiple of 4096 up to 65536.</param>
    /// <param name="destination">65536 bytes; all are written, those without a stored page with zeros.</param>
    /// <exception cref="SnapshotCorruptException">Entry or bytes are wrong; the destination then holds no usable guest data.</exception>
    public void Decode(GranuleEntry e, ReadOnlySpan<byte> stored, int granuleLength, byte* destination)
    {
        if ((uint)granuleLength > FormatV1.GranuleSize || granuleLength % FormatV1.PageSize != 0)
            throw new ArgumentOutOfRangeException(nameof(granuleLength));
        if (TryDecode(e, stored, granuleLength, destination) is { } problem)
            throw new SnapshotCorruptException(FormatV1.MemoryFileName, e.Offset, problem);
    }

    /// <summary>Like <see cref="Decode"/>, but returns what is wrong, or null.</summary>
    internal string? TryDecode(GranuleEntry e, ReadOnlySpan<byte> stored, int granuleLength, byte* destination)
    {
        if (e.Problem(granuleLength, 0, long.MaxValue) is { } problem)
            return problem;
        if (stored.Length != e.StoredLength)
            return $"{stored.Length} stored bytes are given, the entry says {e.StoredLength}";
        if (e.IsZero)
        {
            Unsafe.InitBlockUnaligned(destination, 0, FormatV1.GranuleSize);
            return null;
        }
        if ((uint)XxHash3.HashToUInt64(stored) is var sum && sum != e.Checksum)
            return $"checksum of the granule is {sum:x8}, the index says {e.Checksum:x8}";

        // SAFETY: Problem() bounded RawLength by 65536, the size of the destination; decoders get it as their capacity.
        fixed (byte* from = stored)
        {
            int length = stored.Length,
                raw = e.RawLength;
            switch (e.Encoding)
            {
                case GranuleEncoding.Raw:
                    stored.CopyTo(new Span<byte>(destination, raw));
                    break;
                case GranuleEncoding.Lz4 when Lz4.Decompress(from, destination, length, raw) is var n && n != raw:
                    return n < 0 ? "LZ4 block is malformed or too long" : $"LZ4 block holds {n} bytes instead of {raw}";
                case GranuleEncoding.Zstd when ZstdProblem(from, length, raw, destination) is { } wrong:
                    return wrong;
            }
        }
        ZeroPages.Spread(destination, e.PageBitmap);
        return null;
    }

    /// <summary>Frees the native memory.</summary>
    public void Dispose()
    {
        NativeMemory.AlignedFree(_scratch);
        if (_zstd != 0)
            _ = Zstd.FreeDecompressor(_zstd);
        _scratch = null;
        _zstd = 0;
    }

    private string? ZstdProblem(byte* from, int length, int raw, byte* destination)
    {
        ObjectDisposedException.ThrowIf(_zstd == 0, this);
        // Require exactly one frame in the current format that states its size: this keeps a hostile file from reaching the library's
        // decoders of old formats, skippable frames and trailing bytes.
        if (length < 4 || BinaryPrimitives.ReadUInt32LittleEndian(new ReadOnlySpan<byte>(from, 4)) != Zstd.Magic)
            return "not a Zstandard frame";
        if (Zstd.FrameCompressedSize(from, (nuint)length) != (nuint)length)
            return "Zstandard frame does not end with the stored bytes";
        if (Zstd.FrameContentSize(from, (nuint)length) is var size && size != (ulong)raw)
            return $"Zstandard frame states {size} bytes instead of {raw}";
        nuint n = Zstd.Decompress(_zstd, destination, (nuint)raw, from, (nuint)length);
        if (Zstd.IsError(n))
            return "Zstandard frame is malformed";
        return n == (nuint)raw ? null : $"Zstandard frame holds {n} bytes instead of {raw}";
    }
}
