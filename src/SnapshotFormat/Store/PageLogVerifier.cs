using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>
/// Verifies a page log: its parts, that they tile the file without gap or overlap, and the content of every granule. It follows the order
/// of the file, so the disk is read once from front to back.
/// </summary>
internal sealed unsafe class PageLogVerifier
{
    private const string Name = FormatV1.MemoryFileName;
    private const long ProgressStep = 64 << 20;

    private readonly SafeFileHandle _file;
    private readonly PageLogHeader _header;
    private readonly PageLogFooter _footer;
    private readonly GranuleIndex _index;
    private readonly VerifyReport _report;

    private PageLogVerifier(SafeFileHandle file, PageLogHeader header, PageLogFooter footer, GranuleIndex index, VerifyReport report) =>
        (_file, _header, _footer, _index, _report) = (file, header, footer, index, report);

    public static void Verify(SafeFileHandle directory, VerifyReport report, IProgress<VerifyProgress>? progress)
    {
        using SafeFileHandle file = HostileFile.Open(directory, Name, Name, out long size);
        PageLogHeader? header = null;
        PageLogFooter? footer = null;
        string checksum = "";
        SnapshotVerifier.Guard(report, Name, () => header = PageLogParts.ReadHeader(file, Name, size));
        SnapshotVerifier.Guard(report, Name, () => footer = PageLogParts.ReadFooter(file, Name, size, out checksum));
        CheckAgainstManifest(report, header, footer, size, checksum);
        if (header is null || footer is null)
            return;

        footer.CheckAgainst(header, Name, size);
        using GranuleIndex index = PageLogParts.ReadIndex(file, Name, header, footer, out string? problem);
        // Even if the index is damaged, follow its entries: they show which granules are affected.
        if (problem is not null)
            report.Add(Name, footer.IndexOffset, problem);
        report.BytesRead += header.Length + footer.IndexLength + PageLogFooter.Size;
        new PageLogVerifier(file, header, footer, index, report).CheckGranules(progress);
    }

    private static void CheckAgainstManifest(VerifyReport report, PageLogHeader? header, PageLogFooter? footer, long size, string checksum)
    {
        if (report.Manifest is not { } manifest)
            return;
        if (manifest.Files.FirstOrDefault(f => f.Name == Name) is { } listed)
        {
            if (listed.Size != size)
                report.Add(Name, Math.Min(size, listed.Size), $"the file has {size} bytes, the manifest says {listed.Size}");
            else if (footer is not null && listed.Checksum != checksum)
                report.Add(Name, size - PageLogFooter.Size, "the footer is not the one that the manifest names");
        }
        if (header is not null && footer is not null && ManifestMemory.Problem(manifest, header, footer) is { } problem)
            report.Add(Name, 0, problem);
    }

    private void CheckGranules(IProgress<VerifyProgress>? progress)
    {
        List<Stored> stored = CollectStored();
        stored.Sort();
        byte[] padding = new byte[FormatV1.Alignment];
        byte* destination = (byte*)NativeMemory.AlignedAlloc(FormatV1.GranuleSize, FormatV1.PageSize);
        try
        {
            using var decoder = new GranuleDecoder();
            long position = _header.Length,
                reported = 0;
            foreach (Stored s in stored)
            {
                GranuleEntry e = s.Entry(_index);
                position = CheckPlace(position, e.Offset, padding);
                SnapshotVerifier.Guard(_report, Name, () => CheckGranule(s, e, destination, decoder));
                position = Math.Max(position, e.Offset + e.StoredLength);
                _report.BytesRead += e.StoredLength;
                if (position - reported < ProgressStep)
                    continue;
                progress?.Report(new VerifyProgress(Name, reported = position, _footer.IndexOffset));
            }
            _ = CheckPlace(position, _footer.IndexOffset, padding);
            progress?.Report(new VerifyProgress(Name, _footer.IndexOffset, _footer.IndexOffset));
        }
        finally
        {
            NativeMemory.AlignedFree(destination);
        }
    }

    // The valid entries, and the sums over all of them. Grows only with entries that are really in the file.
    private List<Stored> CollectStored()
    {
        var stored = new List<Stored>();
        long pages = 0,
            bytes = 0,
            granules = 0,
            allPages = 0;
        for (int b = 0; b < _header.Blocks.Count; b++)
        {
            ulong used = _header.Blocks[b].UsedLength;
            allPages += (long)(used / FormatV1.PageSize);
            for (long g = 0, first = _index.FirstGranule(b); g < FormatV1.GranuleCount(used); g++)
            {
                GranuleEntry e = _index.Get(first + g);
                if (e.IsZero)
                    continue;
                granules++;
                pages += e.PageCount;
                bytes += e.StoredLength;
                if (e.Problem(FormatV1.GranuleLength(used, g), _header.Length, _footer.IndexOffset) is { } problem)
                    _report.Add(Name, EntryOffset(first + g), $"granule {g} of block {_header.Blocks[b].Name}: {problem}");
                else
                    stored.Add(new Stored(e.Offset, first + g, b));
            }
        }
        if (
            (granules, pages, allPages - pages, bytes)
            != (_footer.StoredGranules, _footer.StoredPages, _footer.ZeroPages, _footer.StoredBytes)
        )
            _report.Add(Name, _footer.IndexOffset + _footer.IndexLength + 64, "the footer's counts are not those of the index");
        return stored;
    }

    /// <summary>Checks that the next part begins where the last one ended, or at the next multiple of 4096 with zeros up to it.</summary>
    private long CheckPlace(long position, long next, byte[] padding)
    {
        long aligned = FormatV1.Align(position);
        if (next != position && next != aligned)
        {
            _report.Add(
                Name,
                Math.Min(position, next),
                next < position ? $"bytes {next}..{position} are used twice" : $"bytes {position}..{next} belong to nothing"
            );
            return Math.Max(position, next);
        }
        int length = (int)(next - position);
        SnapshotVerifier.Guard(_report, Name, () => HostileFile.ReadExactly(_file, padding.AsSpan(0, length), position, Name));
        _report.BytesRead += length;
        ReadOnlySpan<byte> gap = padding.AsSpan(0, length);
        if (gap.IndexOfAnyExcept((byte)0) is var at and >= 0)
            _report.Add(Name, position + at, "padding is not zero");
        return next;
    }

    private void CheckGranule(Stored s, GranuleEntry e, byte* destination, GranuleDecoder decoder)
    {
        RamBlockLayout block = _header.Blocks[s.Block];
        long granule = s.Granule - _index.FirstGranule(s.Block);
        int length = FormatV1.GranuleLength(block.UsedLength, granule);
        if (PageLogParts.ReadGranule(_file, Name, e, length, destination, decoder) is { } problem)
            _report.Add(Name, e.Offset, $"granule {granule} of block {block.Name}: {problem}");
        else
            _report.GoodGranules++;
    }

    private long EntryOffset(long granule) => _footer.IndexOffset + (granule * FormatV1.EntrySize);

    private readonly record struct Stored(long Offset, long Granule, int Block) : IComparable<Stored>
    {
        public GranuleEntry Entry(GranuleIndex index) => index.Get(Granule);

        public int CompareTo(Stored other) => Offset.CompareTo(other.Offset);
    }
}
