using System.Buffers.Binary;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>
/// Judges an image of the boot sector's memory (tests/guests/bootsector.S): the image holds the pages of 1..101 MiB in the order of
/// writing.
/// </summary>
public static class BootSectorScanner
{
    public const long First = 1L << 20;
    public const long End = 101L << 20;
    public const uint Magic = 0x42534742; // "BGSB"
    private const int Pages = (int)((End - First) / ImageScanner.PageSize);

    public static CutVerdict JudgeFile(string path)
    {
        using var file = File.OpenHandle(path);
        return Judge(RandomAccess.GetLength(file), (offset, buffer) => RandomAccess.Read(file, buffer, offset));
    }

    public static CutVerdict Judge(long length, ReadImage read)
    {
        ArgumentNullException.ThrowIfNull(read);
        var values = new ulong[Pages];
        var seen = new bool[Pages];
        var buffer = new byte[8];
        for (var page = 0; page < Pages; page++)
        {
            var offset = First + (long)page * ImageScanner.PageSize;
            if (offset + buffer.Length > length || read(offset, buffer) != buffer.Length)
                break;
            if (BinaryPrimitives.ReadUInt32LittleEndian(buffer.AsSpan(4)) != Magic)
                continue;
            values[page] = BinaryPrimitives.ReadUInt32LittleEndian(buffer);
            seen[page] = true;
        }

        var found = seen.AsSpan().Count(true);
        if (found == 0)
            return new CutVerdict([]);
        var (counter, place, torn) = CutJudge.Judge(values, seen);
        var cut =
            torn is not null ? Cut.Torn
            : found < Pages ? Cut.Incomplete
            : Cut.OneCut;
        return new CutVerdict([new WriterCut(0, cut, Pages, found, counter, place, torn ?? "")]);
    }
}
