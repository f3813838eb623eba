using System.Globalization;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Linux.Tests.Capture;

/// <summary>The RAM of a finished snapshot, block by block.</summary>
internal sealed unsafe class SnapshotImage : IDisposable
{
    private const int Granule = 65536;
    private const int MostDetails = 8;
    private readonly SnapshotDirectory _directory;
    private readonly PageLogReader _log;
    private readonly GranuleDecoder _decoder = new();

    private SnapshotImage(SnapshotDirectory directory) => (_directory, _log) = (directory, directory.OpenMemory());

    public IReadOnlyList<RamBlockLayout> Blocks => _log.Blocks;

    /// <summary>The block that contains guest physical address 0: the only one of that size.</summary>
    public int Main => Blocks.Index().MaxBy(b => b.Item.UsedLength).Index;

    public static SnapshotImage Open(string path)
    {
        SnapshotDirectory directory = SnapshotDirectory.Open(path);
        try
        {
            return new SnapshotImage(directory);
        }
        catch
        {
            directory.Dispose();
            throw;
        }
    }

    /// <summary>A byte of the main block.</summary>
    public byte ByteAt(long offset) => Read(Main, offset / Granule)[offset % Granule];

    /// <summary>Judges whether the memory of a counting Linux guest is of one instant.</summary>
    public static CutVerdict Judge(string path)
    {
        using SnapshotImage image = Open(path);
        ImageScanner scanner = new();
        for (int b = 0; b < image.Blocks.Count; b++)
        {
            foreach (byte[] granule in image.Granules(b))
                scanner.AddPages(granule);
        }
        return scanner.Judge();
    }

    /// <summary>The record that a guest with disks kept of them in its memory.</summary>
    public static DiskRecord FindDiskRecord(string path)
    {
        using SnapshotImage image = Open(path);
        return DiskRecord.Find(image.Granules(image.Main).Select(g => (ReadOnlyMemory<byte>)g));
    }

    /// <summary>Judges whether the memory of the boot sector guest is of one instant.</summary>
    public static CutVerdict JudgeBootSector(string path)
    {
        using SnapshotImage image = Open(path);
        byte[] ram = [.. image.Granules(image.Main).TakeWhile((_, i) => (long)i * Granule < BootSectorScanner.End).SelectMany(g => g)];
        return BootSectorScanner.Judge(ram.Length, (offset, buffer) =>
        {
            ram.AsSpan((int)offset, buffer.Length).CopyTo(buffer);
            return buffer.Length;
        });
    }

    /// <summary>The pages that differ from the dump of the stop window; "" if all pages of all blocks agree.</summary>
    public static string DifferencesFromDump(string path, string dump)
    {
        using SnapshotImage image = Open(path);
        List<string> details = [];
        long differing = 0;
        for (int b = 0; b < image.Blocks.Count; b++)
        {
            string file = Path.Combine(dump, $"{b.ToString(CultureInfo.InvariantCulture)}.ram");
            differing += image.Compare(b, file, _ => true, details);
        }
        int dumped = Directory.GetFiles(dump).Length;
        if (dumped != image.Blocks.Count)
            details.Add($"{dumped} blocks were dumped, {image.Blocks.Count} are in the snapshot");
        return Tell(differing, details);
    }

    /// <summary>
    /// Compares the guest's main memory with a file that QEMU itself wrote (pmemsave), except the legacy hole, where other memory is
    /// visible.
    /// </summary>
    public static string DifferencesFromMemory(string path, string file)
    {
        using SnapshotImage image = Open(path);
        List<string> details = [];
        long differing = image.Compare(image.Main, file, offset => offset is < 0xa0000 or >= 0x100000, details);
        return Tell(differing, details);
    }

    public void Dispose()
    {
        _decoder.Dispose();
        _log.Dispose();
        _directory.Dispose();
    }

    private static string Tell(long differing, List<string> details) =>
        differing == 0 && details.Count == 0 ? "" : $"{differing} pages differ: {string.Join("; ", details)}";

    private long Compare(int block, string file, Func<long, bool> counts, List<string> details)
    {
        using FileStream truth = File.OpenRead(file);
        if ((ulong)truth.Length != Blocks[block].UsedLength)
            details.Add($"block {Blocks[block].Name} has {Blocks[block].UsedLength} bytes, its dump {truth.Length}");
        byte[] expected = new byte[Granule];
        long differing = 0,
            offset = 0;
        foreach (byte[] granule in Granules(block))
        {
            int got = truth.ReadAtLeast(expected.AsSpan(0, granule.Length), granule.Length, throwOnEndOfStream: false);
            for (int at = 0; at < got; at += ImageScanner.PageSize)
            {
                Span<byte> page = granule.AsSpan(at, ImageScanner.PageSize),
                    other = expected.AsSpan(at, ImageScanner.PageSize);
                if (page.SequenceEqual(other) || !counts(offset + at))
                    continue;
                differing++;
                if (details.Count < MostDetails)
                {
                    int first = page.CommonPrefixLength(other);
                    details.Add($"{Blocks[block].Name}+0x{offset + at + first:x} is {page[first]:x2}, was {other[first]:x2}");
                }
            }
            offset += granule.Length;
        }
        return differing;
    }

    private IEnumerable<byte[]> Granules(int block)
    {
        for (long g = 0; g < _log.GranuleCount(block); g++)
            yield return Read(block, g);
    }

    private byte[] Read(int block, long granule)
    {
        byte[] buffer = new byte[Granule];
        // SAFETY: pinned for the call, which writes 65536 bytes.
        fixed (byte* p = buffer)
            _log.ReadGranule(block, granule, p, _decoder);
        int length = _log.GranuleLength(block, granule);
        return length == Granule ? buffer : buffer[..length];
    }
}
