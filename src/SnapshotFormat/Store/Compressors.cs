using System.Runtime.InteropServices;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>The libzstd calls used here. <see cref="IsError"/> tells whether a returned size is an error.</summary>
internal static unsafe partial class Zstd
{
    /// <summary>First four bytes of a frame in the current format; older formats and skippable frames have others.</summary>
    public const uint Magic = 0xFD2FB528;

    [LibraryImport("libzstd", EntryPoint = "ZSTD_createCCtx")]
    public static partial nint CreateCompressor();

    [LibraryImport("libzstd", EntryPoint = "ZSTD_freeCCtx")]
    public static partial nuint FreeCompressor(nint context);

    [LibraryImport("libzstd", EntryPoint = "ZSTD_compressCCtx")]
    public static partial nuint Compress(nint context, byte* destination, nuint capacity, byte* source, nuint length, int level);

    [LibraryImport("libzstd", EntryPoint = "ZSTD_createDCtx")]
    public static partial nint CreateDecompressor();

    [LibraryImport("libzstd", EntryPoint = "ZSTD_freeDCtx")]
    public static partial nuint FreeDecompressor(nint context);

    [LibraryImport("libzstd", EntryPoint = "ZSTD_decompressDCtx")]
    public static partial nuint Decompress(nint context, byte* destination, nuint capacity, byte* source, nuint length);

    [LibraryImport("libzstd", EntryPoint = "ZSTD_getFrameContentSize")]
    public static partial ulong FrameContentSize(byte* source, nuint length);

    [LibraryImport("libzstd", EntryPoint = "ZSTD_findFrameCompressedSize")]
    public static partial nuint FrameCompressedSize(byte* source, nuint length);

    [LibraryImport("libzstd", EntryPoint = "ZSTD_isError")]
    private static partial uint IsErrorCode(nuint code);

    public static bool IsError(nuint code) => IsErrorCode(code) != 0;
}

/// <summary>The liblz4 calls used here.</summary>
internal static unsafe partial class Lz4
{
    [LibraryImport("liblz4", EntryPoint = "LZ4_sizeofState")]
    public static partial int StateSize();

    /// <summary>Returns the stored length, or 0 if it does not fit <paramref name="capacity"/>.</summary>
    [LibraryImport("liblz4", EntryPoint = "LZ4_compress_fast_extState")]
    public static partial int Compress(void* state, byte* source, byte* destination, int length, int capacity, int acceleration);

    /// <summary>Returns the decoded length, or a negative number for a malformed block or one above <paramref name="capacity"/>.</summary>
    [LibraryImport("liblz4", EntryPoint = "LZ4_decompress_safe")]
    public static partial int Decompress(byte* source, byte* destination, int length, int capacity);
}
