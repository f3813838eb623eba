using System.Buffers.Binary;

namespace Bgsnap.Linux.Tests.Harness;

public enum Cut
{
    /// <summary>The image is of one instant.</summary>
    OneCut,

    /// <summary>Pages of different instants.</summary>
    Torn,

    /// <summary>Pages are missing, or there is nothing to judge.</summary>
    Incomplete,
}

/// <summary>The verdict on one writer's pages.</summary>
/// <param name="Writer">The writer's number.</param>
/// <param name="Cut">What they show.</param>
/// <param name="Pages">The number of pages that the writer has.</param>
/// <param name="Found">The number of its pages in the image.</param>
/// <param name="Counter">c, the pass that the writer was in.</param>
/// <param name="Place">The number of pages that it had written in that pass.</param>
/// <param name="Details">What is wrong, or "".</param>
public sealed record WriterCut(uint Writer, Cut Cut, int Pages, int Found, ulong Counter, int Place, string Details);

/// <summary>The verdict on an image of the guest's memory. Torn outweighs incomplete.</summary>
public sealed record CutVerdict(IReadOnlyList<WriterCut> Writers)
{
    public Cut Cut =>
        Writers.Any(writer => writer.Cut == Cut.Torn) ? Cut.Torn
        : Writers.Count == 0 || Writers.Any(writer => writer.Cut == Cut.Incomplete) ? Cut.Incomplete
        : Cut.OneCut;

    public bool IsOneCut => Cut == Cut.OneCut;

    public override string ToString() =>
        Writers.Count == 0
            ? "Incomplete: no page of a counting guest found"
            : $"{Cut}: "
                + string.Join(
                    "; ",
                    Writers.Select(w =>
                        $"writer {w.Writer}: {w.Cut}, {w.Found} of {w.Pages} pages, c={w.Counter} up to "
                        + $"{w.Place}{(w.Details.Length > 0 ? ", " + w.Details : "")}"
                    )
                );
}

/// <summary>Reads bytes of an image; returns how many, 0 past the end.</summary>
public delegate int ReadImage(long offset, Span<byte> buffer);

/// <summary>
/// Finds the pages of the counting Linux guest (tests/guests/guest.h describes their layout) wherever they lie in an image of its memory,
/// and judges whether the image is of one instant: in the order of writing, each writer's pages must hold c up to one place and c-1 after
/// it. If there is filler, it must be intact.
/// </summary>
public sealed class ImageScanner
{
    public const int PageSize = 4096;
    public const ulong Magic = 0x47505041534e4742; // "BGSNAPPG"
    private const int Tail = PageSize - 8;
    private const int ReadSize = 1 << 20;

    private readonly SortedDictionary<uint, Pages> _writers = [];

    /// <summary>Judges one block: a whole image of the guest's RAM.</summary>
    public static CutVerdict Judge(long length, ReadImage read)
    {
        var scanner = new ImageScanner();
        scanner.Add(length, read);
        return scanner.Judge();
    }

    public static CutVerdict Judge(Stream image)
    {
        ArgumentNullException.ThrowIfNull(image);
        var scanner = new ImageScanner();
        scanner.Add(image);
        return scanner.Judge();
    }

    public static CutVerdict JudgeFile(string path)
    {
        using var file = File.OpenRead(path);
        return Judge(file);
    }

    /// <summary>Adds a RAM block that is read by offset.</summary>
    public void Add(long length, ReadImage read)
    {
        ArgumentNullException.ThrowIfNull(read);
        var buffer = new byte[ReadSize];
        for (long offset = 0; offset < length; )
        {
            var wanted = (int)Math.Min(buffer.Length, length - offset);
            var got = 0;
            while (got < wanted && read(offset + got, buffer.AsSpan(got, wanted - got)) is var count and > 0)
                got += count;
            AddPages(buffer.AsSpan(0, got));
            if (got < wanted)
                break;
            offset += wanted;
        }
    }

    /// <summary>Adds a RAM block from its first byte on.</summary>
    public void Add(Stream block)
    {
        ArgumentNullException.ThrowIfNull(block);
        var buffer = new byte[ReadSize];
        while (block.ReadAtLeast(buffer, buffer.Length, throwOnEndOfStream: false) is var count and > 0)
            AddPages(buffer.AsSpan(0, count));
    }

    /// <summary>Adds pages, in any order and number.</summary>
    public void AddPages(ReadOnlySpan<byte> pages)
    {
        for (; pages.Length >= PageSize; pages = pages[PageSize..])
        {
            if (BinaryPrimitives.ReadUInt64LittleEndian(pages[8..]) == Magic)
                AddPage(pages[..PageSize]);
        }
    }

    public CutVerdict Judge() => new([.. _writers.Select(writer => writer.Value.Judge(writer.Key))]);

    /// <summary>A page as the guest writes it, for tests of the scanners.</summary>
    public static byte[] MakePage(uint writer, int pages, int index, ulong head, ulong tail, uint seed = 0)
    {
        var page = new byte[PageSize];
        BinaryPrimitives.WriteUInt64LittleEndian(page, head);
        BinaryPrimitives.WriteUInt64LittleEndian(page.AsSpan(8), Magic);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(16), writer);
        BinaryPrimitives.WriteInt32LittleEndian(page.AsSpan(20), pages);
        BinaryPrimitives.WriteInt32LittleEndian(page.AsSpan(24), index);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(28), seed);
        if (seed != 0)
        {
            for (var at = 32; at < Tail; at += 8)
                BinaryPrimitives.WriteUInt64LittleEndian(page.AsSpan(at), Filler(seed, writer, (uint)index, (uint)at / 8));
        }

        BinaryPrimitives.WriteUInt64LittleEndian(page.AsSpan(Tail), tail);
        return page;
    }

    private void AddPage(ReadOnlySpan<byte> page)
    {
        var writer = BinaryPrimitives.ReadUInt32LittleEndian(page[16..]);
        var count = BinaryPrimitives.ReadUInt32LittleEndian(page[20..]);
        var index = BinaryPrimitives.ReadUInt32LittleEndian(page[24..]);
        // The magic may also occur in the guest's program, followed by an arbitrary number.
        if (writer >= 64 || count is 0 or > 1 << 24 || index >= count)
            return;
        if (!_writers.TryGetValue(writer, out var pages))
            _writers.Add(writer, pages = new Pages((int)count));
        pages.Add(
            (int)index,
            (int)count,
            BinaryPrimitives.ReadUInt64LittleEndian(page),
            BinaryPrimitives.ReadUInt64LittleEndian(page[Tail..]),
            IsFillerWhole(page, writer, index)
        );
    }

    private static bool IsFillerWhole(ReadOnlySpan<byte> page, uint writer, uint index)
    {
        var seed = BinaryPrimitives.ReadUInt32LittleEndian(page[28..]);
        if (seed == 0)
            return !page[32..Tail].ContainsAnyExcept((byte)0);
        for (var at = 32; at < Tail; at += 8)
        {
            if (BinaryPrimitives.ReadUInt64LittleEndian(page[at..]) != Filler(seed, writer, index, (uint)at / 8))
                return false;
        }

        return true;
    }

    private static ulong Filler(uint seed, uint writer, uint index, uint at)
    {
        var x = unchecked((((ulong)(seed ^ (writer << 20)) << 32) | index) * 0x9e3779b97f4a7c15 + at);
        x = unchecked((x ^ (x >> 30)) * 0xbf58476d1ce4e5b9);
        x = unchecked((x ^ (x >> 27)) * 0x94d049bb133111eb);
        return x ^ (x >> 31);
    }

    /// <summary>One writer's pages, by place in the order of writing.</summary>
    private sealed class Pages(int count)
    {
        private readonly ulong[] _heads = new ulong[count];
        private readonly ulong[] _tails = new ulong[count];
        private readonly bool[] _seen = new bool[count];
        private int _found;
        private string? _problem;

        public void Add(int index, int ofCount, ulong head, ulong tail, bool filler)
        {
            if (ofCount != count)
                _problem ??= $"page {index} says it is one of {ofCount}, others of {count}";
            else if (_seen[index])
                _problem ??= $"page {index} is there twice, with {_heads[index]} and {head}";
            else
                (_heads[index], _tails[index], _seen[index], _found) = (head, tail, true, _found + 1);
            if (!filler)
                _problem ??= $"the filler of page {index} is damaged";
        }

        public WriterCut Judge(uint writer)
        {
            var (counter, place, torn) = CutJudge.Judge(_heads, _seen);
            torn ??= _problem ?? TornWithinPages(counter, place);
            var missing = Array.IndexOf(_seen, false);
            return torn is not null ? new(writer, Cut.Torn, count, _found, counter, place, torn)
                : missing >= 0 ? new(writer, Cut.Incomplete, count, _found, counter, place, $"page {missing} is the first that is missing")
                : new(writer, Cut.OneCut, count, _found, counter, place, "");
        }

        /// <summary>Only the page written last may be torn within itself.</summary>
        private string? TornWithinPages(ulong counter, int place)
        {
            for (var i = 0; i < count; i++)
            {
                if (!_seen[i] || _tails[i] == _heads[i] || (i == place - 1 && _tails[i] == counter - 1))
                    continue;
                return $"page {i} begins with {_heads[i]} and ends with {_tails[i]}";
            }

            return null;
        }
    }
}

/// <summary>The rule itself: c up to one place, c-1 after it.</summary>
internal static class CutJudge
{
    /// <returns>c, the number of pages that hold it, and what breaks the rule, or null.</returns>
    public static (ulong Counter, int Place, string? Torn) Judge(ReadOnlySpan<ulong> values, ReadOnlySpan<bool> seen)
    {
        var first = seen.IndexOf(true);
        if (first < 0)
            return (0, 0, null);
        var counter = values[first];
        var place = values.Length;
        for (var i = first; i < values.Length; i++)
        {
            if (!seen[i])
                continue;
            if (place == values.Length && values[i] == counter - 1)
                place = i;
            else if (values[i] != (i < place ? counter : counter - 1))
                return (counter, i, Message(values, seen, counter, i, place));
        }

        return (counter, place, null);
    }

    private static string Message(ReadOnlySpan<ulong> values, ReadOnlySpan<bool> seen, ulong counter, int at, int place)
    {
        ulong least = ulong.MaxValue,
            greatest = 0;
        for (var i = 0; i < values.Length; i++)
        {
            if (!seen[i])
                continue;
            least = Math.Min(least, values[i]);
            greatest = Math.Max(greatest, values[i]);
        }

        var before = place == values.Length ? $"pages before it {counter}" : $"pages before {place} {counter}, then {counter - 1}";
        return $"page {at} holds {values[at]}, {before} (values {least} to {greatest})";
    }
}
