using System.Buffers.Binary;
using System.Globalization;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>
/// Judges an ext4 image that a guest in mode ext4 (tests/guests/files.c) wrote to, as it would be after a power cut. The journal is
/// replayed on a copy; the result must have no errors, and each file must be the last one that memory knew to be acknowledged.
/// </summary>
internal static class FileScanner
{
    private const int BlockSize = 4096;
    private static readonly ulong Magic = BinaryPrimitives.ReadUInt64LittleEndian("BGSNAPFL"u8);

    /// <summary>Returns the errors; empty if there are no errors.</summary>
    /// <param name="memory">The record from the memory image of the same snapshot.</param>
    /// <param name="image">A raw image; the method changes it by replaying the journal.</param>
    /// <param name="folder">A folder for temporary files.</param>
    public static async Task<IReadOnlyList<string>> JudgeAsync(DiskRecord memory, string image, string folder)
    {
        var (code, said) = await Tool.TryAsync("e2fsck", "-fp", image).ConfigureAwait(false);
        // 1: fsck changed something. If it replays a journal and finds no other fault, that is the only change, and it reports no inodes.
        if (code > 1)
            return [$"e2fsck -fp: exit code {code}: {said}"];
        (code, var again) = await Tool.TryAsync("e2fsck", "-fn", image).ConfigureAwait(false);
        if (code != 0)
            return [$"e2fsck -fn after the replay: exit code {code}: {again}"];
        List<string> problems = [];
        if (!memory.IsFiles)
            problems.Add($"memory tells of no files: {memory}");
        for (var index = 0; index < memory.Slots && problems.Count < 8; index++)
        {
            var acknowledged = LastFor(memory, index, memory.Acknowledged);
            var issued = LastFor(memory, index, memory.Issued);
            var number = await NumberInAsync(image, index, folder).ConfigureAwait(false);
            if (number != acknowledged && number != issued)
                problems.Add(
                    $"f{index} holds {number?.ToString(CultureInfo.InvariantCulture) ?? "a broken file"}, not {acknowledged} ({memory})"
                );
        }

        return problems;
    }

    private static long LastFor(DiskRecord memory, int index, long limit)
    {
        var number = limit - (limit % memory.Slots - index + memory.Slots) % memory.Slots;
        return number < 1 ? 0 : number;
    }

    /// <summary>0: the file does not exist; null: the file is damaged.</summary>
    private static async Task<long?> NumberInAsync(string image, int index, string folder)
    {
        var copy = Path.Combine(folder, "file");
        File.Delete(copy);
        await Tool.RunAsync("debugfs", "-R", string.Create(CultureInfo.InvariantCulture, $"dump /f{index} {copy}"), image)
            .ConfigureAwait(false);
        var bytes = File.Exists(copy) ? await File.ReadAllBytesAsync(copy).ConfigureAwait(false) : [];
        if (bytes.Length == 0)
            return 0;
        long? number = null;
        for (var at = 0; at + BlockSize <= bytes.Length; at += BlockSize)
        {
            var block = bytes.AsSpan(at, BlockSize);
            var here = BinaryPrimitives.ReadInt64LittleEndian(block[8..]);
            var whole =
                BinaryPrimitives.ReadUInt64LittleEndian(block) == Magic
                && here == (number ?? here)
                && BinaryPrimitives.ReadUInt32LittleEndian(block[16..]) == at / BlockSize
                && BinaryPrimitives.ReadUInt32LittleEndian(block[20..]) == bytes.Length / BlockSize
                && BinaryPrimitives.ReadUInt64LittleEndian(block[(BlockSize - 8)..]) == DiskScanner.Checksum(block);
            if (!whole)
                return null;
            number = here;
        }

        return bytes.Length % BlockSize == 0 ? number : null;
    }
}
