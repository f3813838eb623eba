using System.Buffers.Binary;
using System.IO.Hashing;
using System.Text;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>The header of a page log: what it holds, but not where (the index, written last, says that).</summary>
/// <param name="Id">Snapshot id, also in footer and manifest.</param>
/// <param name="Compression">The compression requested from the writer; each granule records how it is really stored.</param>
/// <param name="Blocks">RAM blocks, in the order of the index.</param>
/// <param name="Length">Bytes of the header, a multiple of 4096; the first run begins here.</param>
/// <param name="Checksum">XXH3-64 of the header before its last 8 bytes.</param>
public sealed record PageLogHeader(Guid Id, PageCompression Compression, IReadOnlyList<RamBlockLayout> Blocks, int Length, ulong Checksum)
{
    private const int TableOffset = 56,
        BlockFixedSize = 14,
        ChecksumSize = 8;

    private static ReadOnlySpan<byte> Magic => "BGSNPLOG"u8;

    /// <summary>Number of granules of all blocks.</summary>
    public long TotalGranules => RamBlockLayout.TotalGranules(Blocks);

    /// <summary>The header's bytes for these blocks.</summary>
    /// <exception cref="ArgumentException">The blocks break the format's limits.</exception>
    internal static byte[] Write(Guid id, PageCompression compression, IReadOnlyList<RamBlockLayout> blocks)
    {
        if (RamBlockLayout.Problem(blocks) is { } problem)
            throw new ArgumentException(problem, nameof(blocks));
        int table = blocks.Sum(b => BlockSize(Encoding.UTF8.GetByteCount(b.Name)));
        byte[] bytes = new byte[FormatV1.Align(TableOffset + table + ChecksumSize)];
        Span<byte> span = bytes;
        Magic.CopyTo(span);
        BinaryPrimitives.WriteInt32LittleEndian(span[8..], FormatV1.Version);
        BinaryPrimitives.WriteInt32LittleEndian(span[12..], bytes.Length);
        BinaryPrimitives.WriteInt32LittleEndian(span[16..], FormatV1.PageSize);
        BinaryPrimitives.WriteInt32LittleEndian(span[20..], FormatV1.GranuleSize);
        BinaryPrimitives.WriteInt32LittleEndian(span[24..], (int)compression);
        BinaryPrimitives.WriteInt32LittleEndian(span[28..], blocks.Count);
        BinaryPrimitives.WriteInt64LittleEndian(span[32..], RamBlockLayout.TotalGranules(blocks));
        id.TryWriteBytes(span[40..], bigEndian: true, out _);
        Span<byte> at = span[TableOffset..];
        foreach (RamBlockLayout block in blocks)
        {
            int name = Encoding.UTF8.GetBytes(block.Name, at[BlockFixedSize..]);
            BinaryPrimitives.WriteUInt64LittleEndian(at, block.UsedLength);
            BinaryPrimitives.WriteUInt32LittleEndian(at[8..], block.HostPageSize);
            BinaryPrimitives.WriteUInt16LittleEndian(at[12..], (ushort)name);
            at = at[BlockSize(name)..];
        }
        BinaryPrimitives.WriteUInt64LittleEndian(span[^ChecksumSize..], XxHash3.HashToUInt64(span[..^ChecksumSize]));
        return bytes;
    }

    /// <summary>Checks the first 4096 bytes of the file and returns the header's length, so that the whole header can be read.</summary>
    /// <exception cref="SnapshotCorruptException">It is not a page log of this version.</exception>
    internal static int ReadLength(ReadOnlySpan<byte> start, string file, long fileSize)
    {
        if (!start.StartsWith(Magic))
            throw new SnapshotCorruptException(file, 0, "not a page log: the magic is wrong");
        int version = BinaryPrimitives.ReadInt32LittleEndian(start[8..]);
        if (version != FormatV1.Version)
            throw new SnapshotCorruptException(file, 8, $"version {version} is not {FormatV1.Version}, the one this program reads");
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(start[12..]);
        if (length == 0 || length % FormatV1.Alignment != 0 || length > FormatV1.MaxHeaderSize || length > fileSize - FormatV1.Alignment)
            throw new SnapshotCorruptException(file, 12, $"header length {length} is impossible in a file of {fileSize} bytes");
        return (int)length;
    }

    /// <summary>Checks and reads a whole header.</summary>
    /// <exception cref="SnapshotCorruptException">It is damaged or breaks the format's limits.</exception>
    internal static PageLogHeader Read(ReadOnlySpan<byte> bytes, string file)
    {
        ulong checksum = XxHash3.HashToUInt64(bytes[..^ChecksumSize]);
        if (checksum != BinaryPrimitives.ReadUInt64LittleEndian(bytes[^ChecksumSize..]))
            throw new SnapshotCorruptException(file, bytes.Length - ChecksumSize, "the header's checksum is wrong");
        Expect(bytes, 16, FormatV1.PageSize, "page size", file);
        Expect(bytes, 20, FormatV1.GranuleSize, "granule size", file);
        uint compression = BinaryPrimitives.ReadUInt32LittleEndian(bytes[24..]);
        if (compression > (uint)PageCompression.Zstd)
            throw new SnapshotCorruptException(file, 24, $"compression {compression} does not exist");
        uint count = BinaryPrimitives.ReadUInt32LittleEndian(bytes[28..]);
        if (count > FormatV1.MaxBlocks)
            throw new SnapshotCorruptException(file, 28, $"{count} blocks are more than {FormatV1.MaxBlocks}");

        List<RamBlockLayout> blocks = ReadTable(bytes[..^ChecksumSize], (int)count, file);
        if (RamBlockLayout.Problem(blocks) is { } problem)
            throw new SnapshotCorruptException(file, TableOffset, problem);
        ulong granules = BinaryPrimitives.ReadUInt64LittleEndian(bytes[32..]);
        if (granules != (ulong)RamBlockLayout.TotalGranules(blocks))
            throw new SnapshotCorruptException(file, 32, $"{granules} granules do not fit the blocks");
        return new PageLogHeader(
            new Guid(bytes.Slice(40, 16), bigEndian: true),
            (PageCompression)compression,
            blocks,
            bytes.Length,
            checksum
        );
    }

    private static List<RamBlockLayout> ReadTable(ReadOnlySpan<byte> bytes, int count, string file)
    {
        // The list grows with the table that is really there, not with the claimed count.
        var blocks = new List<RamBlockLayout>();
        int at = TableOffset;
        for (int i = 0; i < count; i++)
        {
            if (bytes.Length - at < BlockFixedSize)
                throw new SnapshotCorruptException(file, at, $"block {i} lies beyond the header");
            ReadOnlySpan<byte> block = bytes[at..];
            int length = BinaryPrimitives.ReadUInt16LittleEndian(block[12..]);
            if (length is 0 or > FormatV1.MaxBlockName || block.Length < BlockSize(length))
                throw new SnapshotCorruptException(file, at + 12, $"block {i} has a name of {length} bytes");
            blocks.Add(
                new RamBlockLayout(
                    ReadName(block.Slice(BlockFixedSize, length), file, at + BlockFixedSize),
                    BinaryPrimitives.ReadUInt64LittleEndian(block),
                    BinaryPrimitives.ReadUInt32LittleEndian(block[8..])
                )
            );
            MustBeZero(block[(BlockFixedSize + length)..BlockSize(length)], file, at + BlockFixedSize + length);
            at += BlockSize(length);
        }
        MustBeZero(bytes[at..], file, at);
        return blocks;
    }

    private static string ReadName(ReadOnlySpan<byte> name, string file, int offset)
    {
        try
        {
            return RamBlockLayout.StrictUtf8.GetString(name);
        }
        catch (DecoderFallbackException)
        {
            throw new SnapshotCorruptException(file, offset, "a block name is not UTF-8");
        }
    }

    private static int BlockSize(int nameLength) => (BlockFixedSize + nameLength + 7) & ~7;

    private static void Expect(ReadOnlySpan<byte> bytes, int offset, int expected, string what, string file)
    {
        uint value = BinaryPrimitives.ReadUInt32LittleEndian(bytes[offset..]);
        if (value != expected)
            throw new SnapshotCorruptException(file, offset, $"{what} {value} is not {expected}");
    }

    private static void MustBeZero(ReadOnlySpan<byte> bytes, string file, int offset)
    {
        int at = bytes.IndexOfAnyExcept((byte)0);
        if (at >= 0)
            throw new SnapshotCorruptException(file, offset + at, "padding is not zero");
    }
}
