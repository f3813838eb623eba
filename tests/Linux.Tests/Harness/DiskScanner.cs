using System.Buffers.Binary;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>The verdict whether disks and memory are of one instant.</summary>
/// <param name="Memory">The record in memory.</param>
/// <param name="Newest">The greatest number on any disk.</param>
/// <param name="Slots">The number of slots checked.</param>
/// <param name="Problems">What does not agree; empty if everything agrees.</param>
public sealed record DiskVerdict(DiskRecord Memory, long Newest, int Slots, IReadOnlyList<string> Problems)
{
    public bool Agrees => Problems.Count == 0;

    public override string ToString() =>
        $"{(Agrees ? "agrees" : $"{Problems.Count} PROBLEMS")}: memory {Memory}, newest on disk {Newest}, {Slots} "
        + $"slots{string.Concat(Problems.Take(8).Select(p => $"\n  {p}"))}";
}

/// <summary>
/// Judges the raw images of the disks that a guest in mode disk (tests/guests/disk.c) wrote to. Each slot must hold exactly the last
/// acknowledged number that belongs there; only the slot of the number in flight may hold either. So no write that memory knows of is
/// missing, no write that it does not know of is there, and across the disks the numbers form a prefix.
/// </summary>
public static class DiskScanner
{
    public const int BlockSize = 4096;
    private const int Words = BlockSize / 8;
    private static readonly ulong Magic = BinaryPrimitives.ReadUInt64LittleEndian("BGSNAPDK"u8);

    /// <param name="memory">The record from the memory image.</param>
    /// <param name="images">Raw images, in the order of the guest's names for the disks.</param>
    public static DiskVerdict Judge(DiskRecord memory, IReadOnlyList<string> images)
    {
        ArgumentNullException.ThrowIfNull(memory);
        ArgumentNullException.ThrowIfNull(images);
        List<string> problems = [];
        if (memory.IsFiles || memory.Disks != images.Count)
            problems.Add($"memory tells of {memory.Disks} disks{(memory.IsFiles ? " with files" : "")}, {images.Count} were captured");
        if (memory.Issued != memory.Acknowledged && memory.Issued != memory.Acknowledged + 1)
            problems.Add($"memory itself is torn: issued {memory.Issued}, acknowledged {memory.Acknowledged}");
        long newest = 0;
        var looked = 0;
        for (var disk = 0; disk < images.Count && problems.Count == 0; disk++)
        {
            using var image = File.OpenHandle(images[disk]);
            for (var slot = 0; slot < memory.Slots; slot++, looked++)
            {
                var block = new byte[BlockSize];
                _ = RandomAccess.Read(image, block, (long)slot * memory.StrideKiB * 1024);
                var number = NumberIn(block, memory, disk, slot);
                newest = Math.Max(newest, number ?? 0);
                if (Problem(memory, disk, slot, number) is { } problem)
                    problems.Add(problem);
            }
        }

        return new DiskVerdict(memory, newest, looked, problems);
    }

    /// <summary>A block as the guest writes it, for tests of this scanner.</summary>
    public static byte[] MakeBlock(DiskRecord memory, long number)
    {
        ArgumentNullException.ThrowIfNull(memory);
        var block = new byte[BlockSize];
        Set(block, 0, Magic);
        Set(block, 1, (ulong)number);
        Set(block, 2, (ulong)memory.Disks << 32 | (ulong)((number - 1) % memory.Disks));
        Set(block, 3, (ulong)memory.StrideKiB << 32 | (uint)memory.Slots);
        for (var at = 4; at < Words - 1; at++)
            Set(block, at, (ulong)(number + at) * 0x9e3779b97f4a7c15);
        Set(block, Words - 1, Checksum(block));
        return block;
    }

    /// <summary>tests/guests/disk.c, checksum(): of all words but the last.</summary>
    public static ulong Checksum(ReadOnlySpan<byte> block)
    {
        var sum = 0xcbf29ce484222325;
        for (var at = 0; at < Words - 1; at++)
            sum = (sum ^ Get(block, at)) * 0x100000001b3 ^ sum >> 29;
        return sum;
    }

    /// <summary>The greatest number up to the limit that belongs in this slot; less than 1: no number does.</summary>
    public static long LastFor(DiskRecord memory, int disk, int slot, long limit)
    {
        ArgumentNullException.ThrowIfNull(memory);
        long round = (long)memory.Disks * memory.Slots,
            first = (long)slot * memory.Disks + disk + 1;
        return limit < first ? 0 : limit - (limit - first) % round;
    }

    private static string? Problem(DiskRecord memory, int disk, int slot, long? number)
    {
        var acknowledged = LastFor(memory, disk, slot, memory.Acknowledged);
        var issued = LastFor(memory, disk, slot, memory.Issued);
        if (number == acknowledged || number == issued)
            return null;
        // A write in flight may have reached the disk in part.
        if (number is null && issued != acknowledged)
            return null;
        return $"disk {disk} slot {slot} holds {number?.ToString(System.Globalization.CultureInfo.InvariantCulture) ?? "a broken block"}, "
            + $"not {acknowledged}"
            + (
                number > memory.Issued ? ": from after the point in time"
                : number < acknowledged ? ": an acknowledged write is missing"
                : ""
            );
    }

    /// <summary>The number in a block that is intact and belongs there; 0 for a slot never written, null for anything else.</summary>
    private static long? NumberIn(byte[] block, DiskRecord memory, int disk, int slot)
    {
        if (block.AsSpan().IndexOfAnyExcept((byte)0) < 0)
            return 0;
        var number = (long)Get(block, 1);
        var belongs =
            Get(block, 0) == Magic
            && number > 0
            && Get(block, 2) == ((ulong)memory.Disks << 32 | (uint)disk)
            && Get(block, 3) == ((ulong)memory.StrideKiB << 32 | (uint)memory.Slots)
            && (number - 1) % memory.Disks == disk
            && (number - 1) / memory.Disks % memory.Slots == slot;
        return belongs && Get(block, Words - 1) == Checksum(block) ? number : null;
    }

    private static ulong Get(ReadOnlySpan<byte> block, int word) => BinaryPrimitives.ReadUInt64LittleEndian(block[(word * 8)..]);

    private static void Set(byte[] block, int word, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(block.AsSpan(word * 8), value);
}
