using System.IO.Hashing;
using System.Runtime.InteropServices;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Tests.Store;

public sealed unsafe class GranuleCodecTests
{
    [Theory]
    [InlineData(PageCompression.None)]
    [InlineData(PageCompression.Lz4)]
    [InlineData(PageCompression.Zstd)]
    public void Any_granule_comes_back(PageCompression compression)
    {
        // A fixed seed makes failures reproducible.
        var random = new Random(20260801);
        using var encoder = new GranuleEncoder(compression);
        using var decoder = new GranuleDecoder();
        byte[] stored = new byte[65536],
            back = new byte[65536];
        for (int round = 0; round < 600; round++)
        {
            int pages = random.Next(1, 17);
            byte[] memory = GuestBlock.Random("x", pages, random, random.NextDouble()).Memory;
            byte[] before = (byte[])memory.Clone();
            bool inPlace = compression == PageCompression.None && random.Next(2) == 0;
            GranuleEntry e;
            fixed (
                byte* m = memory,
                    s = stored,
                    b = back
            )
            {
                e = encoder.Encode(m, memory.Length, inPlace ? m : s);
                ReadOnlySpan<byte> bytes = new(inPlace ? m : s, e.StoredLength);
                Array.Fill(back, (byte)0xee);
                decoder.Decode(e, bytes, pages * 4096, b);
            }
            Assert.True(back.AsSpan(0, before.Length).SequenceEqual(before), $"round {round}");
            Assert.False(back.AsSpan(before.Length).ContainsAnyExcept((byte)0));
            Assert.Equal(!before.AsSpan().ContainsAnyExcept((byte)0), e.IsZero);
            Assert.Equal(0, e.Offset);
            if (e.Encoding is GranuleEncoding.Lz4 or GranuleEncoding.Zstd)
                Assert.True(e.StoredLength <= e.RawLength - (e.RawLength / 16));
        }
    }

    [Theory]
    [InlineData(PageCompression.None, GranuleEncoding.Raw)]
    [InlineData(PageCompression.Lz4, GranuleEncoding.Lz4)]
    [InlineData(PageCompression.Zstd, GranuleEncoding.Zstd)]
    public void Each_compression_has_its_encoding_and_noise_stays_raw(PageCompression compression, GranuleEncoding expected)
    {
        using var encoder = new GranuleEncoder(compression);
        byte[] memory = new byte[65536],
            stored = new byte[65536];
        Array.Fill(memory, (byte)3);
        fixed (
            byte* m = memory,
                s = stored
        )
        {
            Assert.Equal(expected, encoder.Encode(m, 65536, s).Encoding);
            new Random(1).NextBytes(memory);
            GranuleEntry e = encoder.Encode(m, 65536, s);
            Assert.Equal(GranuleEncoding.Raw, e.Encoding);
            Assert.Equal(65536, e.StoredLength);
            Assert.Equal(ushort.MaxValue, e.PageBitmap);
        }
    }

    [Fact]
    public void Encoding_allocates_nothing()
    {
        using var encoder = new GranuleEncoder(PageCompression.Zstd);
        using var decoder = new GranuleDecoder();
        byte[] memory = GuestBlock.Random("x", 16, new Random(2)).Memory,
            stored = new byte[65536];
        fixed (
            byte* m = memory,
                s = stored
        )
        {
            for (int i = 0; i < 50; i++)
                Round(m, s);
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < 100; i++)
                Round(m, s);
            Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
        }

        void Round(byte* m, byte* s)
        {
            GranuleEntry e = encoder.Encode(m, 65536, s);
            decoder.Decode(e, new ReadOnlySpan<byte>(s, e.StoredLength), 65536, m);
        }
    }

    [Fact]
    public void Entry_keeps_each_field_apart()
    {
        GranuleEntry e = GranuleEntry.Create((1L << 48) - 1, 0x8001, 65536, GranuleEncoding.Zstd, 0xdeadbeef);
        Assert.Equal(
            ((1L << 48) - 1, (ushort)0x8001, 65536, GranuleEncoding.Zstd, 0xdeadbeef),
            (e.Offset, e.PageBitmap, e.StoredLength, e.Encoding, e.Checksum)
        );
        Assert.Equal(8192, e.RawLength);
        Assert.Equal(4096, e.WithOffset(4096).Offset);
        Assert.Equal(e, e.WithOffset(4096).WithOffset((1L << 48) - 1));
        Assert.True(default(GranuleEntry).WithOffset(4096).IsZero);
        Assert.Equal(16, sizeof(GranuleEntry));
        Assert.Throws<ArgumentOutOfRangeException>(() => GranuleEntry.Create(1L << 48, 1, 4096, GranuleEncoding.Raw, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => GranuleEntry.Create(-1, 1, 4096, GranuleEncoding.Raw, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => GranuleEntry.Create(0, 1, 65537, GranuleEncoding.Raw, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => e.WithOffset(-1));
    }

    [Fact]
    public void Impossible_entries_are_named()
    {
        Assert.NotNull(new GranuleEntry(5, 0).Problem(65536, 0, 1 << 20));
        Assert.NotNull(new GranuleEntry(0, 5).Problem(65536, 0, 1 << 20));
        foreach (
            GranuleEntry bad in (GranuleEntry[])
                [
                    GranuleEntry.Create(4096, 0, 4096, GranuleEncoding.Raw, 1),
                    GranuleEntry.Create(4096, 0x10, 4096, GranuleEncoding.Raw, 1), // beyond a granule of 4 pages
                    GranuleEntry.Create(4096, 3, 4096, GranuleEncoding.Raw, 1),
                    GranuleEntry.Create(4096, 1, 4096, GranuleEncoding.Lz4, 1),
                    GranuleEntry.Create(4096, 1, 0, GranuleEncoding.Zstd, 1),
                    GranuleEntry.Create(4096, 1, 100, GranuleEncoding.Zero, 1),
                    GranuleEntry.Create(4096, 1, 100, (GranuleEncoding)4, 1),
                    GranuleEntry.Create(0, 1, 4096, GranuleEncoding.Raw, 1),
                    GranuleEntry.Create(8192, 1, 4097, GranuleEncoding.Raw, 1),
                    GranuleEntry.Create(12288, 1, 4096, GranuleEncoding.Raw, 1),
                    GranuleEntry.Create((1L << 48) - 1, 1, 4096, GranuleEncoding.Raw, 1),
                    new(
                        GranuleEntry.Create(4096, 1, 4096, GranuleEncoding.Raw, 1).Lo,
                        GranuleEntry.Create(4096, 1, 4096, GranuleEncoding.Raw, 1).Hi | 1UL << 63
                    ),
                ]
        )
            Assert.NotNull(bad.Problem(4 * 4096, 4096, 16383));
        Assert.Null(GranuleEntry.Create(12287, 1, 4096, GranuleEncoding.Raw, 1).Problem(4 * 4096, 4096, 16383));
    }

    [Theory]
    [InlineData(GranuleEncoding.Lz4)]
    [InlineData(GranuleEncoding.Zstd)]
    public void Data_that_expands_to_more_or_less_than_its_pages_is_refused(GranuleEncoding encoding)
    {
        // 16 pages are compressed, but the entry says 8, or the reverse; the checksums are right.
        PageCompression compression = encoding == GranuleEncoding.Lz4 ? PageCompression.Lz4 : PageCompression.Zstd;
        using var encoder = new GranuleEncoder(compression);
        byte[] memory = new byte[65536],
            stored = new byte[65536];
        Array.Fill(memory, (byte)3);
        GranuleEntry sixteen;
        fixed (
            byte* m = memory,
                s = stored
        )
            sixteen = encoder.Encode(m, 65536, s);
        byte[] bytes = stored[..sixteen.StoredLength];
        AssertRefused(encoding, bytes, 0x00ff);
        AssertRefused(encoding, bytes, 0x7fff);
        AssertRefused(encoding, bytes[..^1], 0xffff);
        AssertRefused(encoding, [.. bytes, 0], 0xffff);

        fixed (
            byte* m = memory,
                s = stored
        )
            sixteen = encoder.Encode(m, 8 * 4096, s);
        AssertRefused(encoding, stored[..sixteen.StoredLength], 0xffff);
    }

    [Fact]
    public void Malformed_compressed_data_never_gets_through_or_out_of_bounds()
    {
        var random = new Random(77);
        foreach (PageCompression compression in (PageCompression[])[PageCompression.Lz4, PageCompression.Zstd])
        {
            using var encoder = new GranuleEncoder(compression);
            using var decoder = new GranuleDecoder();
            byte[] memory = GuestBlock.Random("x", 16, random, 0.2).Memory,
                stored = new byte[65536];
            // A guard behind the destination shows a write beyond it.
            byte* guarded = (byte*)NativeMemory.AlignedAlloc(65536 + 4096, 4096);
            NativeMemory.Fill(guarded + 65536, 4096, 0x5a);
            fixed (
                byte* m = memory,
                    s = stored
            )
            {
                for (int round = 0; round < 3000; round++)
                {
                    GranuleEntry e = encoder.Encode(m, 65536, s);
                    if (e.Encoding == GranuleEncoding.Raw)
                        break;
                    for (int i = random.Next(1, 4); i > 0; i--)
                        stored[random.Next(e.StoredLength)] ^= (byte)random.Next(1, 256);
                    var bytes = new ReadOnlySpan<byte>(s, e.StoredLength);
                    GranuleEntry forged = GranuleEntry.Create(
                        4096,
                        e.PageBitmap,
                        e.StoredLength,
                        e.Encoding,
                        (uint)XxHash3.HashToUInt64(bytes)
                    );
                    _ = decoder.TryDecode(forged, bytes, 65536, guarded);
                    Assert.NotNull(decoder.TryDecode(e, bytes, 65536, guarded));
                }
            }
            Assert.False(new ReadOnlySpan<byte>(guarded + 65536, 4096).ContainsAnyExcept((byte)0x5a));
            NativeMemory.AlignedFree(guarded);
        }
    }

    [Fact]
    public void Skippable_and_foreign_zstd_frames_are_refused()
    {
        AssertRefused(GranuleEncoding.Zstd, [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], 1);
        AssertRefused(GranuleEncoding.Zstd, [0x25, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0], 1); // version 0.5
        AssertRefused(GranuleEncoding.Zstd, [0x28, 0xb5, 0x2f], 1);
    }

    [Fact]
    public void Misuse_is_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => new GranuleEncoder((PageCompression)9));
        Assert.Throws<ArgumentOutOfRangeException>(() => new GranuleEncoder(PageCompression.Zstd, 23));
        using var encoder = new GranuleEncoder(PageCompression.Lz4);
        byte[] memory = new byte[65536];
        memory[0] = 1;
        fixed (byte* pinned = memory)
        {
            byte* m = pinned;
            Assert.Throws<ArgumentException>(() => encoder.Encode(m, 65536, m));
            Assert.Throws<ArgumentOutOfRangeException>(() => encoder.Encode(m, 100, m));
            Assert.Throws<ArgumentOutOfRangeException>(() => encoder.Encode(m, 65536 + 4096, m));
        }
    }

    private static void AssertRefused(GranuleEncoding encoding, byte[] bytes, ushort bitmap)
    {
        using var decoder = new GranuleDecoder();
        GranuleEntry e = GranuleEntry.Create(4096, bitmap, bytes.Length, encoding, (uint)XxHash3.HashToUInt64(bytes));
        byte[] destination = new byte[65536];
        fixed (byte* pinned = destination)
        {
            byte* d = pinned;
            SnapshotCorruptException error = Assert.Throws<SnapshotCorruptException>(() => decoder.Decode(e, bytes, 65536, d));
            Assert.Equal(4096, error.Offset);
        }
    }
}
