using System.IO.Hashing;
using Bgsnap.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>
/// Reads the parts of a page log one by one; shared by the reader, which stops at the first problem, and the verifier, which continues.
/// </summary>
internal static unsafe class PageLogParts
{
    private const int Chunk = 1 << 20;

    public static PageLogHeader ReadHeader(SafeFileHandle file, string display, long size)
    {
        if (size < 2 * FormatV1.Alignment)
            throw new SnapshotCorruptException(display, size, "the file is too short for a page log");
        byte[] start = new byte[FormatV1.Alignment];
        HostileFile.ReadExactly(file, start, 0, display);
        int length = PageLogHeader.ReadLength(start, display, size);
        byte[] header = new byte[length];
        HostileFile.ReadExactly(file, header, 0, display);
        return PageLogHeader.Read(header, display);
    }

    public static PageLogFooter ReadFooter(SafeFileHandle file, string display, long size, out string checksum)
    {
        if (size < 2 * FormatV1.Alignment || size % FormatV1.Alignment != 0)
            throw new SnapshotCorruptException(display, size, "the file's length is not a multiple of 4096: it is cut off");
        byte[] page = new byte[PageLogFooter.Size];
        HostileFile.ReadExactly(file, page, size - PageLogFooter.Size, display);
        checksum = PageLogFooter.ManifestChecksum(page);
        return PageLogFooter.Read(page, display, size - PageLogFooter.Size);
    }

    /// <summary>Reads the index. Header and footer must have been checked against each other and the file's size.</summary>
    /// <param name="file">The page log.</param>
    /// <param name="display">Its name in errors.</param>
    /// <param name="header">Contains the number of granules.</param>
    /// <param name="footer">Contains the index's offset and checksum.</param>
    /// <param name="problem">What is wrong with the index as a whole, or null.</param>
    public static GranuleIndex ReadIndex(
        SafeFileHandle file,
        string display,
        PageLogHeader header,
        PageLogFooter footer,
        out string? problem
    )
    {
        var index = new GranuleIndex(header.Blocks);
        try
        {
            byte[] chunk = new byte[Math.Min(Chunk, footer.IndexLength)];
            var hash = new XxHash3();
            for (long at = 0; at < index.ByteLength; at += chunk.Length)
            {
                Span<byte> part = chunk.AsSpan(0, (int)Math.Min(chunk.Length, index.ByteLength - at));
                HostileFile.ReadExactly(file, part, footer.IndexOffset + at, display);
                hash.Append(part);
                CopyNonZero(part, index.Bytes + at);
            }
            long used = index.Count * FormatV1.EntrySize;
            bool padded = !new ReadOnlySpan<byte>(index.Bytes + used, (int)(index.ByteLength - used)).ContainsAnyExcept((byte)0);
            problem =
                hash.GetCurrentHashAsUInt64() != footer.IndexChecksum ? "the index's checksum is wrong"
                : padded ? null
                : "the index's padding is not zero";
            return index;
        }
        catch
        {
            index.Dispose();
            throw;
        }
    }

    /// <summary>Reads and decodes a granule; returns what is wrong, or null. The entry must already have been checked.</summary>
    public static string? ReadGranule(
        SafeFileHandle file,
        string display,
        GranuleEntry e,
        int granuleLength,
        byte* destination,
        GranuleDecoder decoder
    )
    {
        // Raw pages are read straight into their place; no other encoding can be.
        byte* stored = e.Encoding == GranuleEncoding.Raw ? destination : decoder.Scratch;
        nuint n = e.IsZero ? 0 : FileSyscalls.ReadAll(file, stored, (nuint)e.StoredLength, e.Offset, display);
        // SAFETY: a checked entry stores at most 65536 bytes, the size of both buffers.
        return n < (nuint)e.StoredLength
            ? "the file ended while it was read"
            : decoder.TryDecode(e, new ReadOnlySpan<byte>(stored, e.StoredLength), granuleLength, destination);
    }

    // Touch only pages with entries: a sparse index stays sparse in memory.
    private static void CopyNonZero(ReadOnlySpan<byte> part, byte* destination)
    {
        for (int at = 0; at < part.Length; at += FormatV1.Alignment)
        {
            ReadOnlySpan<byte> page = part.Slice(at, FormatV1.Alignment);
            // SAFETY: the index has as many bytes as the parts together; both are multiples of 4096.
            if (page.ContainsAnyExcept((byte)0))
                page.CopyTo(new Span<byte>(destination + at, FormatV1.Alignment));
        }
    }
}
