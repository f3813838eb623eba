using System.Buffers.Binary;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>What the guest's memory knows of its disks; tests/guests/guest.h, struct record.</summary>
/// <param name="IsFiles">Mode ext4: the numbers are of files; else of slots.</param>
/// <param name="Disks">Disks that are written in turn.</param>
/// <param name="Slots">Slots of each disk, or files.</param>
/// <param name="StrideKiB">From one slot to the next.</param>
/// <param name="Issued">The last number that a write was begun with.</param>
/// <param name="Acknowledged">The last number that the disk said it has: this one or the one before.</param>
public sealed record DiskRecord(bool IsFiles, int Disks, int Slots, int StrideKiB, long Issued, long Acknowledged)
{
    private const string Magic = "BGSNAPRC";
    private const int Page = 4096;

    /// <summary>Null for every other page.</summary>
    public static DiskRecord? FromPage(ReadOnlySpan<byte> page)
    {
        var magic = BinaryPrimitives.ReadUInt64LittleEndian(System.Text.Encoding.ASCII.GetBytes(Magic));
        if (page.Length != Page || Word(page, 0) != magic || Word(page, Page / 8 - 1) != ~magic)
            return null;
        return new DiskRecord(
            Half(page, 8) == 2,
            (int)Half(page, 12),
            (int)Half(page, 16),
            (int)Half(page, 20),
            (long)Word(page, 3),
            (long)Word(page, 4)
        );
    }

    /// <summary>The record in a memory image; there must be exactly one.</summary>
    public static DiskRecord Find(IEnumerable<ReadOnlyMemory<byte>> chunks)
    {
        ArgumentNullException.ThrowIfNull(chunks);
        List<DiskRecord> found = [];
        foreach (var chunk in chunks)
        {
            for (var at = 0; at + Page <= chunk.Length; at += Page)
            {
                if (FromPage(chunk.Span.Slice(at, Page)) is { } record)
                    found.Add(record);
            }
        }

        return found.Count == 1
            ? found[0]
            : throw new InvalidDataException($"{found.Count} records of disks are in the guest's memory: {string.Join("; ", found)}");
    }

    private static ulong Word(ReadOnlySpan<byte> page, int index) => BinaryPrimitives.ReadUInt64LittleEndian(page[(index * 8)..]);

    private static uint Half(ReadOnlySpan<byte> page, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(page[offset..]);
}
