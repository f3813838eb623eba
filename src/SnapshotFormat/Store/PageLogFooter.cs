using System.Buffers.Binary;
using System.IO.Hashing;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>The last 4096 bytes of a page log: they bind header and index together.</summary>
/// <param name="IndexOffset">First byte of the index, a multiple of 4096.</param>
/// <param name="IndexLength">Its bytes with padding, a multiple of 4096.</param>
/// <param name="IndexChecksum">XXH3-64 of those bytes.</param>
/// <param name="HeaderChecksum">Copy of the header's checksum.</param>
/// <param name="Id">Copy of the snapshot's id.</param>
/// <param name="StoredGranules">Number of granules with stored pages.</param>
/// <param name="StoredPages">Number of stored pages.</param>
/// <param name="ZeroPages">Number of pages not stored.</param>
/// <param name="StoredBytes">Sum of all stored lengths.</param>
public sealed record PageLogFooter(
    long IndexOffset,
    long IndexLength,
    ulong IndexChecksum,
    ulong HeaderChecksum,
    Guid Id,
    long StoredGranules,
    long StoredPages,
    long ZeroPages,
    long StoredBytes
)
{
    /// <summary>Bytes of the footer.</summary>
    public const int Size = FormatV1.Alignment;

    private const int FieldsEnd = 96,
        ChecksumOffset = Size - 8;

    private static ReadOnlySpan<byte> Magic => "BGSNPEND"u8;

    /// <summary>The form of a footer's checksum in the manifest: it covers every byte of the page log.</summary>
    internal static string ManifestChecksum(ReadOnlySpan<byte> page)
    {
        UInt128 hash = XxHash128.HashToUInt128(page);
        return $"bgsnplog:{(ulong)(hash >> 64):x16}{(ulong)hash:x16}";
    }

    internal void Write(Span<byte> page)
    {
        page.Clear();
        Magic.CopyTo(page);
        BinaryPrimitives.WriteInt32LittleEndian(page[8..], FormatV1.Version);
        BinaryPrimitives.WriteInt64LittleEndian(page[16..], IndexOffset);
        BinaryPrimitives.WriteInt64LittleEndian(page[24..], IndexLength);
        BinaryPrimitives.WriteUInt64LittleEndian(page[32..], IndexChecksum);
        BinaryPrimitives.WriteUInt64LittleEndian(page[40..], HeaderChecksum);
        Id.TryWriteBytes(page[48..], bigEndian: true, out _);
        BinaryPrimitives.WriteInt64LittleEndian(page[64..], StoredGranules);
        BinaryPrimitives.WriteInt64LittleEndian(page[72..], StoredPages);
        BinaryPrimitives.WriteInt64LittleEndian(page[80..], ZeroPages);
        BinaryPrimitives.WriteInt64LittleEndian(page[88..], StoredBytes);
        BinaryPrimitives.WriteUInt64LittleEndian(page[ChecksumOffset..], XxHash3.HashToUInt64(page[..ChecksumOffset]));
    }

    /// <summary>Checks and reads the footer at <paramref name="offset"/> by itself.</summary>
    /// <exception cref="SnapshotCorruptException">It is damaged, or is not a footer of this version.</exception>
    internal static PageLogFooter Read(ReadOnlySpan<byte> page, string file, long offset)
    {
        if (!page.StartsWith(Magic))
            throw new SnapshotCorruptException(file, offset, "no footer at the end: the file is cut off, or was never finished");
        if (XxHash3.HashToUInt64(page[..ChecksumOffset]) != BinaryPrimitives.ReadUInt64LittleEndian(page[ChecksumOffset..]))
            throw new SnapshotCorruptException(file, offset + ChecksumOffset, "the footer's checksum is wrong");
        int version = BinaryPrimitives.ReadInt32LittleEndian(page[8..]);
        if (version != FormatV1.Version)
            throw new SnapshotCorruptException(
                file,
                offset + 8,
                $"version {version} is not {FormatV1.Version}, the one this program reads"
            );
        if (BinaryPrimitives.ReadInt32LittleEndian(page[12..]) != 0 || page[FieldsEnd..ChecksumOffset].ContainsAnyExcept((byte)0))
            throw new SnapshotCorruptException(file, offset + 12, "reserved bytes of the footer are not zero");
        return new PageLogFooter(
            BinaryPrimitives.ReadInt64LittleEndian(page[16..]),
            BinaryPrimitives.ReadInt64LittleEndian(page[24..]),
            BinaryPrimitives.ReadUInt64LittleEndian(page[32..]),
            BinaryPrimitives.ReadUInt64LittleEndian(page[40..]),
            new Guid(page.Slice(48, 16), bigEndian: true),
            BinaryPrimitives.ReadInt64LittleEndian(page[64..]),
            BinaryPrimitives.ReadInt64LittleEndian(page[72..]),
            BinaryPrimitives.ReadInt64LittleEndian(page[80..]),
            BinaryPrimitives.ReadInt64LittleEndian(page[88..])
        );
    }

    /// <summary>Checks the footer against header and file size; after that, offset and length are safe to use.</summary>
    /// <exception cref="SnapshotCorruptException">They do not belong together.</exception>
    internal void CheckAgainst(PageLogHeader header, string file, long fileSize)
    {
        long at = fileSize - Size;
        if (HeaderChecksum != header.Checksum)
            throw new SnapshotCorruptException(file, at + 40, "the footer belongs to another header");
        if (Id != header.Id)
            throw new SnapshotCorruptException(file, at + 48, "the footer belongs to another snapshot");
        long expected = FormatV1.Align(header.TotalGranules * FormatV1.EntrySize);
        if (IndexLength != expected)
            throw new SnapshotCorruptException(file, at + 24, $"index length {IndexLength} is not {expected}");
        // Compare with the only possible value, so that nothing is added to a number from the file.
        if (IndexOffset != at - IndexLength || IndexOffset < header.Length)
            throw new SnapshotCorruptException(
                file,
                at + 16,
                $"index offset {IndexOffset} is not {at - IndexLength}, just before the footer"
            );
        if (at > FormatV1.MaxOffset)
            throw new SnapshotCorruptException(file, FormatV1.MaxOffset, "the file is longer than offsets reach");
    }
}
