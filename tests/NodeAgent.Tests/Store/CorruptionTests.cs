using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Tests.Store;

/// <summary>Accidents: flipped bytes, truncated or exchanged files. The reader must detect each of them and must never crash.</summary>
public sealed class CorruptionTests : IDisposable
{
    private readonly TempDirectory _temp = new();

    public void Dispose() => _temp.Dispose();

    [Theory]
    [InlineData(PageCompression.None)]
    [InlineData(PageCompression.Lz4)]
    [InlineData(PageCompression.Zstd)]
    public void Every_flipped_byte_of_every_file_is_found(PageCompression compression)
    {
        string dir = _temp.Sub("snap");
        List<GuestBlock> guest = [GuestBlock.Random("pc.ram", 19, new Random(8), 0.75), GuestBlock.Random("rom", 1, new Random(9), 0)];
        GuestSnapshot.Write(dir, guest, compression, deviceState: 300);
        Assert.Empty(SnapshotVerifier.Verify(dir).Problems);
        var random = new Random(123);
        foreach (string file in (string[])["memory", "snapshot.json", "device-state"])
        {
            string path = Path.Combine(dir, file);
            byte[] good = File.ReadAllBytes(path);
            using var handle = File.OpenHandle(path, FileMode.Open, FileAccess.Write);
            // Every position that holds data; in long runs of zeros, which one rule covers, every seventh.
            for (int i = 0; i < good.Length; i++)
            {
                bool dull = good[i] == 0 && i > 0 && good[i - 1] == 0 && i + 1 < good.Length && good[i + 1] == 0;
                if (dull && i % 7 != 0 && i % 4096 < 4080)
                    continue;
                RandomAccess.Write(handle, [(byte)(good[i] ^ (1 << random.Next(8)))], i);
                VerifyReport report = SnapshotVerifier.Verify(dir);
                Assert.True(
                    report.Problems.Any(p => p.File == file),
                    $"{file}: byte {i} was flipped and not found: {string.Join("; ", report.Problems)}"
                );
                RandomAccess.Write(handle, good.AsSpan(i, 1), i);
            }
        }
        Assert.Empty(SnapshotVerifier.Verify(dir).Problems);
    }

    [Fact]
    public void A_flipped_byte_of_a_granule_is_named_and_only_that_granule_refused()
    {
        string dir = _temp.Sub("snap");
        List<GuestBlock> guest = GuestSnapshot.Small();
        GuestSnapshot.Write(dir, guest, PageCompression.Lz4);
        GranuleEntry entry;
        using (PageLogReader log = PageLogReader.Open(Path.Combine(dir, "memory")))
            entry = log.Entry(0, 1);
        Flip(Path.Combine(dir, "memory"), entry.Offset + entry.StoredLength - 1);

        VerifyProblem problem = Assert.Single(SnapshotVerifier.Verify(dir).Problems);
        Assert.Equal(("memory", entry.Offset), (problem.File, problem.Offset));
        Assert.Contains("granule 1 of block pc.ram", problem.Message, StringComparison.Ordinal);

        using SnapshotDirectory snapshot = SnapshotDirectory.Open(dir);
        using PageLogReader reader = snapshot.OpenMemory();
        using var decoder = new GranuleDecoder();
        Assert.Throws<SnapshotCorruptException>(() => Read(reader, 0, 1, decoder));
        Read(reader, 0, 0, decoder);
        Read(reader, 0, 2, decoder);
    }

    [Fact]
    public void Every_cut_of_the_page_log_is_found()
    {
        string dir = _temp.Sub("snap"),
            path = Path.Combine(dir, "memory");
        GuestSnapshot.Write(dir, GuestSnapshot.Small(), PageCompression.Zstd);
        byte[] good = File.ReadAllBytes(path);
        var lengths = new SortedSet<int> { 0, 1 };
        for (int at = 4096; at <= good.Length; at += 4096)
            lengths.UnionWith([at - 1, at, at + 1]);
        var random = new Random(4);
        for (int i = 0; i < 300; i++)
            lengths.Add(random.Next(good.Length));
        lengths.RemoveWhere(l => l >= good.Length);
        foreach (int length in lengths.Reverse())
        {
            File.WriteAllBytes(path, good[..length]);
            Assert.False(SnapshotVerifier.Verify(dir).IsSound, $"cut at {length}");
            Assert.Throws<SnapshotCorruptException>(() => PageLogReader.Open(path));
        }
        foreach (int more in (int[])[1, 8, 4095, 4096, 8192])
        {
            File.WriteAllBytes(path, [.. good, .. new byte[more]]);
            Assert.False(SnapshotVerifier.Verify(dir).IsSound, $"{more} bytes more");
            Assert.Throws<SnapshotCorruptException>(() => PageLogReader.Open(path));
        }
    }

    [Theory]
    [InlineData("device-state")]
    [InlineData("snapshot.json")]
    public void Every_cut_of_the_other_files_is_found(string file)
    {
        string dir = _temp.Sub("snap"),
            path = Path.Combine(dir, file);
        GuestSnapshot.Write(dir, GuestSnapshot.Small(), PageCompression.Lz4, deviceState: 200);
        byte[] good = File.ReadAllBytes(path);
        for (int length = 0; length < good.Length; length++)
        {
            File.WriteAllBytes(path, good[..length]);
            Assert.Contains(SnapshotVerifier.Verify(dir).Problems, p => p.File == file);
        }
    }

    [Theory]
    [InlineData("memory")]
    [InlineData("device-state")]
    [InlineData("snapshot.json")]
    public void A_file_of_another_snapshot_or_none_is_found(string file)
    {
        string dir = _temp.Sub("snap"),
            other = _temp.Sub("other");
        GuestSnapshot.Write(dir, GuestSnapshot.Small(), PageCompression.Lz4);
        GuestSnapshot.Write(other, GuestSnapshot.Small(), PageCompression.Lz4, deviceState: 701);
        File.Copy(Path.Combine(other, file), Path.Combine(dir, file), overwrite: true);
        Assert.False(SnapshotVerifier.Verify(dir).IsSound);
        File.Delete(Path.Combine(dir, file));
        Assert.False(SnapshotVerifier.Verify(dir).IsSound);
        Directory.CreateDirectory(Path.Combine(dir, file));
        Assert.False(SnapshotVerifier.Verify(dir).IsSound);
    }

    [Fact]
    public void Garbage_of_any_length_is_refused_and_crashes_nothing()
    {
        string dir = _temp.Sub("snap"),
            path = Path.Combine(dir, "memory");
        GuestSnapshot.Write(dir, GuestSnapshot.Small(), PageCompression.Lz4);
        byte[] good = File.ReadAllBytes(path);
        var random = new Random(55);
        for (int round = 0; round < 300; round++)
        {
            byte[] bad = (byte[])good.Clone();
            // A torn write: a run of noise or zeros anywhere.
            int at = random.Next(bad.Length),
                length = Math.Min(random.Next(1, 20_000), bad.Length - at);
            if (random.Next(2) == 0)
                random.NextBytes(bad.AsSpan(at, length));
            else
                bad.AsSpan(at, length).Clear();
            File.WriteAllBytes(path, bad);
            Assert.Equal(bad.AsSpan().SequenceEqual(good), SnapshotVerifier.Verify(dir).IsSound);
        }
    }

    private static unsafe void Read(PageLogReader reader, int block, long granule, GranuleDecoder decoder)
    {
        byte[] destination = new byte[65536];
        fixed (byte* p = destination)
            reader.ReadGranule(block, granule, p, decoder);
    }

    private static void Flip(string path, long offset)
    {
        using var handle = File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite);
        byte[] one = new byte[1];
        RandomAccess.Read(handle, one, offset);
        one[0] ^= 0x10;
        RandomAccess.Write(handle, one, offset);
    }
}
