using System.Buffers.Binary;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>The record that the guest keeps of its disks in memory; tests/guests/guest.h, struct record.</summary>
/// <param name="IsFiles">True: the guest runs in mode ext4 and the numbers are those of files; false: of slots.</param>
/// <param name="Disks">The number of disks, which the guest writes in turn.</param>
/// <param name="Slots">The number of slots of each disk, or of files.</param>
/// <param name="StrideKiB">The distance from one slot to the next.</param>
/// <param name="Issued">The number of the last write that the guest began.</param>
/// <param name="Acknowledged">The number of the last write that the disk acknowledged: the issued one or the one before.</param>
public sealed record DiskRecord(bool IsFiles, int Disks, int Slots, int StrideKiB, long Issued, long Acknowledged)
{
    private const string Magic = "BGSNAPRC";
    private const int Page = 4096;

    /// <summary>Parses a page; null: the page is not a record.</summary>
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

    /// <summary>Finds the record in a memory image, which must contain exactly one.</summary>
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
