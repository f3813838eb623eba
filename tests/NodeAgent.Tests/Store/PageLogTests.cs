using System.Runtime.InteropServices;
using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tests.Store;

public sealed unsafe class PageLogTests : IDisposable
{
    private readonly TempDirectory _temp = new();

    public void Dispose() => _temp.Dispose();

    [Theory]
    [InlineData(PageCompression.None, 1)]
    [InlineData(PageCompression.Lz4, 1)]
    [InlineData(PageCompression.Zstd, 1)]
    [InlineData(PageCompression.None, 4)]
    [InlineData(PageCompression.Zstd, 4)]
    public void What_was_written_is_read_in_any_order(PageCompression compression, int threads)
    {
        var random = new Random(3);
        GuestBlock[] blocks =
        [
            GuestBlock.Random("pc.ram", 1600, random),
            GuestBlock.Random("pc.bios", 64, random, 0.9),
            GuestBlock.Random("odd", 17, random, 0),
            new GuestBlock(new RamBlockLayout("empty", 0, 2 << 20), []),
            GuestBlock.Random("one", 1, random, 0),
        ];
        string path = _temp.Sub("memory");
        PageLogSummary summary = GuestSnapshot.WriteLog(path, blocks, compression, threads);

        using PageLogReader log = PageLogReader.Open(path);
        GuestSnapshot.AssertSame(log, blocks);
        Assert.Equal(GuestSnapshot.Layouts(blocks), log.Blocks);
        Assert.Equal(summary.Checksum, log.Checksum);
        Assert.Equal(summary.FileSize, new FileInfo(path).Length);
        Assert.Equal(blocks.Sum(b => b.Memory.Length / 4096), summary.StoredPages + summary.ZeroPages);
        Assert.Equal(compression, log.Header.Compression);
        for (int b = 0; b < blocks.Length; b++)
        {
            for (int g = 0; g < log.GranuleCount(b); g++)
            for (int p = 0; p < log.GranuleLength(b, g) / 4096; p++)
                Assert.Equal(
                    blocks[b].Memory.AsSpan((g * 65536) + (p * 4096), 4096).ContainsAnyExcept((byte)0),
                    (log.PageBitmap(b, g) >> p & 1) == 1
                );
        }
    }

    [Fact]
    public void Readers_on_several_threads_do_not_disturb_each_other()
    {
        GuestBlock[] blocks = [GuestBlock.Random("pc.ram", 800, new Random(4))];
        GuestSnapshot.WriteLog(_temp.Sub("memory"), blocks, PageCompression.Lz4);
        using PageLogReader log = PageLogReader.Open(_temp.Sub("memory"));
        Parallel.For(0, 4, _ => GuestSnapshot.AssertSame(log, blocks));
    }

    [Fact]
    public void An_empty_terabyte_takes_neither_disk_nor_memory()
    {
        RamBlockLayout[] blocks = [new("pc.ram", 1UL << 40, 4096)];
        string path = _temp.Sub("memory");
        byte* page = (byte*)NativeMemory.AlignedAlloc(4096, 4096);
        using (PageLogWriter writer = PageLogWriter.Create(path, blocks, PageCompression.None, Guid.NewGuid()))
        using (var index = new GranuleIndex(blocks))
        using (var ledger = new GranuleLedger(index.Count))
        using (var encoder = new GranuleEncoder(PageCompression.None))
        {
            NativeMemory.Fill(page, 4096, 7);
            GranuleEntry e = encoder.Encode(page, 4096, page);
            long offset = writer.Reserve(4096);
            writer.WriteRun(page, 4096, offset);
            index.Set(index.Count / 2, e.WithOffset(offset));
            ledger.NoteCopied(index.Count / 2, 1);
            ledger.NoteEncoded(index.Count / 2);
            ledger.NoteWritten([index.Count / 2]);
            PageLogSummary summary = writer.Finish(index, ledger, copied: 1);
            Assert.Equal(1L << 24, summary.Granules);
            Assert.Equal(1, summary.StoredPages);
        }
        NativeMemory.AlignedFree(page);
        Assert.True(Blocks512(path) * 512 < 1 << 20);
        using PageLogReader log = PageLogReader.Open(path);
        Assert.Equal(1, log.PageBitmap(0, log.GranuleCount(0) / 2));
        Assert.True(log.Entry(0, 0).IsZero);
    }

    [Fact]
    public void A_log_without_blocks_is_sound()
    {
        GuestSnapshot.WriteLog(_temp.Sub("memory"), [], PageCompression.None);
        using PageLogReader log = PageLogReader.Open(_temp.Sub("memory"));
        Assert.Empty(log.Blocks);
    }

    [Fact]
    public void Finish_refuses_a_run_that_was_never_written()
    {
        RamBlockLayout[] blocks = [new("a", 65536, 4096)];
        using PageLogWriter writer = PageLogWriter.Create(_temp.Sub("memory"), blocks, PageCompression.None, Guid.NewGuid());
        using var index = new GranuleIndex(blocks);
        using var ledger = new GranuleLedger(index.Count);
        writer.Reserve(4096);
        Assert.Contains("were reserved", Assert.Throws<InvalidOperationException>(() => writer.Finish(index, ledger, copied: 0)).Message);
    }

    /// <summary>A buffer that a queue has lost: no run was reserved for it, so the byte sums do not show it.</summary>
    [Fact]
    public void Finish_refuses_a_granule_that_was_copied_and_never_written()
    {
        RamBlockLayout[] blocks = [new("a", 65536, 4096)];
        using PageLogWriter writer = PageLogWriter.Create(_temp.Sub("memory"), blocks, PageCompression.None, Guid.NewGuid());
        using var index = new GranuleIndex(blocks);
        using var ledger = new GranuleLedger(index.Count);
        ledger.NoteCopied(0, 1);
        Assert.Contains("never written", Assert.Throws<InvalidOperationException>(() => writer.Finish(index, ledger, copied: 1)).Message);
    }

    [Fact]
    public void Finish_refuses_an_entry_outside_the_runs()
    {
        RamBlockLayout[] blocks = [new("a", 65536, 4096)];
        using PageLogWriter writer = PageLogWriter.Create(_temp.Sub("memory"), blocks, PageCompression.None, Guid.NewGuid());
        using var index = new GranuleIndex(blocks);
        using var ledger = new GranuleLedger(index.Count);
        index.Set(0, GranuleEntry.Create(1 << 20, 1, 4096, GranuleEncoding.Raw, 0));
        ledger.NoteCopied(0, 1);
        ledger.NoteEncoded(0);
        ledger.NoteWritten([0]);
        Assert.Contains(
            "outside the runs",
            Assert.Throws<InvalidOperationException>(() => writer.Finish(index, ledger, copied: 1)).Message
        );
    }

    [Fact]
    public void A_full_volume_is_named_with_the_remedy_and_ends_the_log()
    {
        // /dev/full accepts no byte, like a full volume.
        using SafeFileHandle full = File.OpenHandle("/dev/full", FileMode.Open, FileAccess.ReadWrite);
        LinuxException e = Assert.Throws<LinuxException>(() =>
            new PageLogWriter(full, "/claim/memory", [], PageCompression.None, Guid.NewGuid())
        );
        Assert.Equal(28, e.Errno);
        Assert.Contains("/claim/memory", e.Message, StringComparison.Ordinal);
        Assert.Contains("free some space", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_existing_file_is_not_overwritten()
    {
        File.WriteAllText(_temp.Sub("memory"), "precious");
        LinuxException e = Assert.Throws<LinuxException>(() =>
            PageLogWriter.Create(_temp.Sub("memory"), [], PageCompression.None, Guid.NewGuid())
        );
        Assert.Equal(17, e.Errno);
        Assert.Equal("precious", File.ReadAllText(_temp.Sub("memory")));
    }

    [Fact]
    public void Misuse_is_refused()
    {
        RamBlockLayout[] blocks = [new("a", 65536, 4096)];
        using PageLogWriter writer = PageLogWriter.Create(_temp.Sub("memory"), blocks, PageCompression.None, Guid.NewGuid());
        Assert.Throws<ArgumentOutOfRangeException>(() => writer.Reserve(100));
        Assert.Throws<ArgumentOutOfRangeException>(() => writer.Reserve(0));
        byte* p = (byte*)NativeMemory.AlignedAlloc(8192, 4096);
        long offset = writer.Reserve(4096);
        Assert.Throws<ArgumentException>(() => writer.WriteRun(p + 1, 4096, offset));
        Assert.Throws<ArgumentOutOfRangeException>(() => writer.WriteRun(p, 4096, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => writer.WriteRun(p, 8192, offset));
        NativeMemory.AlignedFree(p);
        foreach (
            RamBlockLayout bad in (RamBlockLayout[])
                [
                    new("", 4096, 4096),
                    new(new string('x', 256), 4096, 4096),
                    new("a", 4095, 4096),
                    new("a", 1UL << 45, 4096),
                    new("a", 4096, 0),
                    new("a", 4096, 5000),
                    new("a\0b", 4096, 4096),
                    new("\ud800", 4096, 4096),
                ]
        )
            Assert.Throws<ArgumentException>(() => new GranuleIndex([bad]));
        Assert.Throws<ArgumentException>(() => new GranuleIndex([blocks[0], blocks[0]]));
    }

    private static long Blocks512(string path)
    {
        using var stat = System.Diagnostics.Process.Start(
            new System.Diagnostics.ProcessStartInfo("stat", ["-c", "%b", path]) { RedirectStandardOutput = true }
        )!;
        long blocks = long.Parse(stat.StandardOutput.ReadToEnd(), System.Globalization.CultureInfo.InvariantCulture);
        stat.WaitForExit();
        return blocks;
    }
}
