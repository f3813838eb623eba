using System.Buffers.Binary;
using System.IO.Hashing;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Tests.Store;

/// <summary>Attacks: every checksum is right, but the content is not. Readers must refuse without trusting a number first.</summary>
public sealed class HostileSnapshotTests : IDisposable
{
    private readonly TempDirectory _temp = new();
    private readonly string _dir;
    private readonly byte[] _good;
    private readonly Manifest _manifest;

    public HostileSnapshotTests()
    {
        _dir = _temp.Sub("snap");
        _manifest = GuestSnapshot.Write(_dir, GuestSnapshot.Small(), PageCompression.Lz4);
        _good = File.ReadAllBytes(LogPath);
    }

    private string LogPath => Path.Combine(_dir, "memory");

    private static Span<byte> Footer(byte[] log) => log.AsSpan(log.Length - 4096);

    public void Dispose() => _temp.Dispose();

    [Fact]
    public void The_forgery_itself_is_right()
    {
        Forge(_good);
        Assert.Empty(SnapshotVerifier.Verify(_dir).Problems);
    }

    public static TheoryData<string, int, ulong, int> HeaderFields =>
        new()
        {
            { "version", 8, 2, 4 },
            { "version", 8, uint.MaxValue, 4 },
            { "header length", 12, 0, 4 },
            { "header length", 12, 4097, 4 },
            { "header length", 12, 0xfffff000, 4 },
            { "header length", 12, 0x80000000, 4 },
            { "header length", 12, 8192, 4 },
            { "page size", 16, 0, 4 },
            { "granule size", 20, 4096, 4 },
            { "compression", 24, 3, 4 },
            { "compression", 24, uint.MaxValue, 4 },
            { "block count", 28, 2, 4 },
            { "block count", 28, 4, 4 },
            { "block count", 28, 4096, 4 },
            { "block count", 28, uint.MaxValue, 4 },
            { "granules", 32, 0, 8 },
            { "granules", 32, 1UL << 40, 8 },
            { "granules", 32, ulong.MaxValue, 8 },
            { "used length", 56, 1UL << 43, 8 }, // 8 TiB: an index of 2 GiB
            { "used length", 56, 1UL << 44, 8 },
            { "used length", 56, 1UL << 63, 8 },
            { "used length", 56, ulong.MaxValue, 8 },
            { "used length", 56, ulong.MaxValue - 4095, 8 }, // the sum with the next one wraps
            { "used length", 56, 4095, 8 },
            { "host page size", 64, 0, 4 },
            { "host page size", 64, 12288, 4 },
            { "name length", 68, 0, 2 },
            { "name length", 68, 256, 2 },
            { "name length", 68, ushort.MaxValue, 2 },
            { "name", 70, 0xff, 1 },
            { "padding of a name", 76, 1, 1 },
            { "padding of the header", 4000, 1, 1 },
        };

    [Theory]
    [MemberData(nameof(HeaderFields))]
    public void A_lying_header_is_refused(string field, int offset, ulong value, int size)
    {
        byte[] log = (byte[])_good.Clone();
        Put(log.AsSpan(offset), value, size);
        // Adjust the number of granules, so that each false value reaches its own check.
        if (field == "used length")
            Put(log.AsSpan(32), (value / 65536) + 3, 8);
        AssertRefused(log);
    }

    public static TheoryData<string, int, ulong> FooterFields
    {
        get
        {
            var data = new TheoryData<string, int, ulong>();
            foreach (ulong v in (ulong[])[0, 4096, 1UL << 40, 1UL << 62, 1UL << 63, ulong.MaxValue, ulong.MaxValue - 4095])
            {
                data.Add("index offset", 16, v);
                if (v != 4096)
                    data.Add("index length", 24, v);
            }
            data.Add("version", 8, 2);
            data.Add("reserved", 96, 1);
            data.Add("stored granules", 64, 1);
            data.Add("stored pages", 72, 1);
            data.Add("zero pages", 80, 1UL << 63);
            data.Add("stored bytes", 88, ulong.MaxValue);
            data.Add("id", 48, 1);
            data.Add("header checksum", 40, 1);
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(FooterFields))]
    public void A_lying_footer_is_refused(string field, int offset, ulong value)
    {
        byte[] log = (byte[])_good.Clone();
        Put(Footer(log)[offset..], value, 8);
        Forge(log, reseal: false);
        Assert.False(SnapshotVerifier.Verify(_dir).IsSound, field);
        // Only the footer contains this count and nothing uses it: only verify adds it up.
        if (field == "stored granules")
            return;
        using SnapshotDirectory snapshot = SnapshotDirectory.Open(_dir);
        Assert.Throws<SnapshotCorruptException>(() => snapshot.OpenMemory().Dispose());
    }

    [Fact]
    public void Lying_entries_are_refused_when_used()
    {
        (int at, GranuleEntry e) = FirstStored();
        foreach (
            GranuleEntry bad in (GranuleEntry[])
                [
                    e.WithOffset(0),
                    e.WithOffset(4095),
                    e.WithOffset(_good.Length - 4096),
                    e.WithOffset(_good.Length),
                    e.WithOffset((1L << 48) - 1),
                    new(e.Lo, e.Hi | (1UL << 60)),
                    new(e.Lo & ((1UL << 48) - 1), e.Hi),
                    GranuleEntry.Create(e.Offset, 1, 65536, GranuleEncoding.Raw, e.Checksum),
                    GranuleEntry.Create(e.Offset, 0xffff, 65536, GranuleEncoding.Zstd, e.Checksum),
                    GranuleEntry.Create(e.Offset, e.PageBitmap, e.StoredLength, (GranuleEncoding)7, e.Checksum),
                    new(ulong.MaxValue, ulong.MaxValue),
                    new(0, 1),
                    new(1, 0),
                ]
        )
        {
            byte[] log = (byte[])_good.Clone();
            PutEntry(log, at, bad);
            Forge(log);
            Assert.False(SnapshotVerifier.Verify(_dir).IsSound, bad.ToString());
            using PageLogReader reader = PageLogReader.Open(LogPath);
            using var decoder = new GranuleDecoder();
            Assert.Throws<SnapshotCorruptException>(() => Read(reader, 0, 0, decoder));
        }
    }

    [Fact]
    public void Entries_that_share_bytes_or_leave_some_out_are_found()
    {
        (int at, GranuleEntry e) = FirstStored();
        byte[] log = (byte[])_good.Clone();
        GranuleEntry second = GetEntry(log, at + 16);
        Assert.False(second.IsZero);

        PutEntry(log, at + 16, e); // two granules, the same bytes
        AssertProblem(log, "used twice");
        log = (byte[])_good.Clone();
        PutEntry(log, at + 16, default); // a granule is missing, its bytes are still there
        AssertProblem(log, "belong to nothing");
    }

    [Fact]
    public void Bytes_hidden_in_padding_are_found()
    {
        long end = 0;
        for (int at = IndexOffset; at < _good.Length - 4096; at += 16)
            end = Math.Max(end, GetEntry(_good, at).Offset + GetEntry(_good, at).StoredLength);
        Assert.NotEqual(0, end % 4096);
        byte[] log = (byte[])_good.Clone();
        log[end] = 1;
        AssertProblem(log, "padding is not zero");
        log = (byte[])_good.Clone();
        log[^4097] = 1; // after the last entry
        AssertProblem(log, "the index's padding is not zero");
    }

    [Fact]
    public void A_page_of_nothing_between_runs_and_index_is_found()
    {
        byte[] log = [.. _good[..IndexOffset], .. new byte[4096], .. _good[IndexOffset..]];
        Put(Footer(log)[16..], (ulong)IndexOffset + 4096, 8);
        AssertProblem(log, "belong to nothing");
    }

    [Fact]
    public void Random_lies_with_right_checksums_never_crash_a_reader()
    {
        var random = new Random(31337);
        using var decoder = new GranuleDecoder();
        for (int round = 0; round < 1500; round++)
        {
            byte[] log = (byte[])_good.Clone();
            Span<byte> part = random.Next(3) switch
            {
                0 => log.AsSpan(0, 200),
                1 => log.AsSpan(IndexOffset, 128),
                _ => Footer(log)[..96],
            };
            for (int i = random.Next(1, 4); i > 0; i--)
                part[random.Next(part.Length)] = (byte)random.Next(256);
            Forge(log, reseal: random.Next(4) != 0);
            bool same = _good.AsSpan().SequenceEqual(File.ReadAllBytes(LogPath));
            bool sound = SnapshotVerifier.Verify(_dir).IsSound;
            try
            {
                using PageLogReader reader = PageLogReader.Open(LogPath);
                for (int b = 0; b < reader.Blocks.Count; b++)
                for (long g = 0; g < Math.Min(10, reader.GranuleCount(b)); g++)
                    Read(reader, b, g, decoder);
            }
            catch (SnapshotCorruptException)
            {
                Assert.False(same || sound);
            }
        }
    }

    private int IndexOffset => (int)BinaryPrimitives.ReadInt64LittleEndian(Footer(_good)[16..]);

    private (int At, GranuleEntry Entry) FirstStored() => (IndexOffset, GetEntry(_good, IndexOffset));

    private static GranuleEntry GetEntry(byte[] log, int at) =>
        new(BinaryPrimitives.ReadUInt64LittleEndian(log.AsSpan(at)), BinaryPrimitives.ReadUInt64LittleEndian(log.AsSpan(at + 8)));

    private static void PutEntry(byte[] log, int at, GranuleEntry e)
    {
        Put(log.AsSpan(at), e.Lo, 8);
        Put(log.AsSpan(at + 8), e.Hi, 8);
    }

    private static void Put(Span<byte> at, ulong value, int size)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        bytes[..size].CopyTo(at);
    }

    private void AssertRefused(byte[] log)
    {
        Forge(log);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Throws<SnapshotCorruptException>(() => PageLogReader.Open(LogPath).Dispose());
        Assert.False(SnapshotVerifier.Verify(_dir).IsSound);
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 16 << 20);
    }

    private void AssertProblem(byte[] log, string message)
    {
        Forge(log);
        Assert.Contains(SnapshotVerifier.Verify(_dir).Problems, p => p.Message.Contains(message, StringComparison.Ordinal));
    }

    /// <summary>Corrects every checksum and installs the log with a matching manifest.</summary>
    /// <param name="log">The forged file.</param>
    /// <param name="reseal">Whether to seal header and index too; the footer's copies then follow.</param>
    private void Forge(byte[] log, bool reseal = true)
    {
        Span<byte> footer = Footer(log);
        if (reseal)
        {
            int header = BinaryPrimitives.ReadInt32LittleEndian(log.AsSpan(12));
            if (header is > 8 and < 100_000 && header <= log.Length)
            {
                ulong sum = XxHash3.HashToUInt64(log.AsSpan(0, header - 8));
                Put(log.AsSpan(header - 8), sum, 8);
                Put(footer[40..], sum, 8);
            }
            long index = BinaryPrimitives.ReadInt64LittleEndian(footer[16..]),
                length = BinaryPrimitives.ReadInt64LittleEndian(footer[24..]);
            if (index >= 0 && length >= 0 && index <= log.Length && length <= log.Length - index)
                Put(footer[32..], XxHash3.HashToUInt64(log.AsSpan((int)index, (int)length)), 8);
        }
        Put(footer[4088..], XxHash3.HashToUInt64(footer[..4088]), 8);
        File.WriteAllBytes(LogPath, log);
        ManifestFile[] files =
        [
            .. _manifest.Files.Select(f =>
                f.Name == "memory"
                    ? f with
                    {
                        Size = log.Length,
                        Checksum = PageLogFooter.ManifestChecksum(log.AsSpan(log.Length - 4096)),
                    }
                    : f
            ),
        ];
        File.WriteAllBytes(Path.Combine(_dir, "snapshot.json"), ManifestJson.Write(_manifest with { Files = files }));
    }

    private static unsafe void Read(PageLogReader reader, int block, long granule, GranuleDecoder decoder)
    {
        byte[] destination = new byte[65536];
        fixed (byte* p = destination)
            reader.ReadGranule(block, granule, p, decoder);
    }
}
