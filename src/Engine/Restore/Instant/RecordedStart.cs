using System.Buffers.Binary;
using System.IO.Hashing;
using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Restore.Instant;

/// <summary>
/// A small file in the snapshot's directory that lists what a guest touched when it was last started from the snapshot. The next start
/// loads that first.
/// </summary>
/// <remarks>
/// <code>
///   0   "BGSNSTRT", u32 version, u32 count, snapshot id (16)
///   32  count × u64: index of the block in the page log in the upper 24 bits, granule in the lower 40
///       XXH3-64 of all before it
/// </code>
/// Little-endian. Only a hint: a damaged record, or one of another snapshot, is ignored.
/// </remarks>
internal static class RecordedStart
{
    internal const string FileName = FormatV1.StartOrderFileName;
    private const string PartialName = FormatV1.StartOrderPartialName;
    private const int HeaderSize = 32,
        Version = 1,
        GranuleBits = 40,
        LargestFile = 1 << 20;
    private static ReadOnlySpan<byte> Magic => "BGSNSTRT"u8;

    /// <summary>The recorded units, in order; empty without a sound record.</summary>
    internal static IReadOnlyList<long> Read(string directory, PageLogReader log, LazyRam ram)
    {
        try
        {
            using SafeFileHandle folder = SnapshotFiles.OpenDirectory(null, directory);
            byte[] bytes = SnapshotFiles.ReadSmall(folder, FileName, FileName, LargestFile);
            return Parse(bytes, log.Header.Id, ram.Blocks);
        }
        catch (Exception e) when (e is IOException or SnapshotCorruptException)
        {
            return [];
        }
    }

    /// <summary>Writes the record if possible; if not, the next start has no record.</summary>
    internal static bool TryWrite(string directory, PageLogReader log, LazyRam ram, IReadOnlyList<long> units)
    {
        if (units.Count == 0)
            return false;
        try
        {
            using SafeFileHandle folder = SnapshotFiles.OpenDirectory(null, directory);
            _ = FileSyscalls.TryUnlink(folder, PartialName, 0);
            // Always a new file, never through a link: the volume belongs to somebody else.
            using (
                SafeFileHandle file = FileSyscalls.OpenAt(
                    folder,
                    PartialName,
                    FileSyscalls.O_RDWR | FileSyscalls.O_CREAT | FileSyscalls.O_EXCL | FileSyscalls.O_NOFOLLOW,
                    0x180 /* 0600 */
                )
            )
                RandomAccess.Write(file, Format(log.Header.Id, ram, units), 0);
            _ = FileSyscalls.TryUnlink(folder, FileName, 0);
            FileSyscalls.RenameNoReplaceIn(folder, PartialName, FileName);
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    /// <summary>The bytes of a record.</summary>
    internal static byte[] Format(Guid id, LazyRam ram, IReadOnlyList<long> units) =>
        Format(id, [.. units.Select(u => (ram.BlockOf(u).LogIndex, ram.BlockOf(u).FirstGranule(u)))]);

    internal static byte[] Format(Guid id, IReadOnlyList<(int Block, long Granule)> granules)
    {
        byte[] bytes = new byte[HeaderSize + granules.Count * sizeof(ulong) + sizeof(ulong)];
        Magic.CopyTo(bytes);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(8), Version);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(12), granules.Count);
        _ = id.TryWriteBytes(bytes.AsSpan(16));
        for (int i = 0; i < granules.Count; i++)
            BinaryPrimitives.WriteUInt64LittleEndian(
                bytes.AsSpan(HeaderSize + i * sizeof(ulong)),
                (ulong)granules[i].Block << GranuleBits | (ulong)granules[i].Granule
            );
        BinaryPrimitives.WriteUInt64LittleEndian(
            bytes.AsSpan(bytes.Length - sizeof(ulong)),
            XxHash3.HashToUInt64(bytes.AsSpan(0, bytes.Length - sizeof(ulong)))
        );
        return bytes;
    }

    /// <summary>The units of a record; units outside all blocks are left out.</summary>
    internal static IReadOnlyList<long> Parse(ReadOnlySpan<byte> bytes, Guid id, IReadOnlyList<LazyBlock> blocks)
    {
        if (
            bytes.Length < HeaderSize + sizeof(ulong)
            || !bytes.StartsWith(Magic)
            || BinaryPrimitives.ReadInt32LittleEndian(bytes[8..]) != Version
            || new Guid(bytes.Slice(16, 16)) != id
            || BinaryPrimitives.ReadUInt64LittleEndian(bytes[^sizeof(ulong)..]) != XxHash3.HashToUInt64(bytes[..^sizeof(ulong)])
        )
            return [];
        int count = BinaryPrimitives.ReadInt32LittleEndian(bytes[12..]);
        if (count != (bytes.Length - HeaderSize - sizeof(ulong)) / sizeof(ulong))
            return [];
        List<long> units = new(count);
        for (int i = 0; i < count; i++)
        {
            ulong entry = BinaryPrimitives.ReadUInt64LittleEndian(bytes[(HeaderSize + i * sizeof(ulong))..]);
            (ulong block, ulong granule) = (entry >> GranuleBits, entry & ((1UL << GranuleBits) - 1));
            if (
                blocks.FirstOrDefault(b => (ulong)b.LogIndex == block) is { } b
                && granule < (b.Length + FormatV1.GranuleSize - 1) / FormatV1.GranuleSize
            )
                units.Add(b.UnitOf(b.Start + granule * FormatV1.GranuleSize));
        }
        return units;
    }
}
