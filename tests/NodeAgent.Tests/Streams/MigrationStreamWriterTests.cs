using Bgsnap.SnapshotFormat.Streams;
using static Bgsnap.NodeAgent.Tests.Streams.StreamSamples;

namespace Bgsnap.NodeAgent.Tests.Streams;

public class MigrationStreamWriterTests
{
    private const uint RamId = 0x4247534e;

    [Fact]
    public void A_tiny_snapshot_has_these_bytes()
    {
        byte[] ram = [.. Page(0x11), .. new byte[4096], .. Page(0x22)];
        byte[] stream = Write(new MemoryRam().Add("pc.ram", ram).Add("rom", new byte[4096]));

        byte[] expected =
        [
            0x51,
            0x45,
            0x56,
            0x4d,
            0,
            0,
            0,
            3,
            7,
            0,
            0,
            0,
            10,
            .. "pc-q35-7.2"u8,
            1,
            0x42,
            0x47,
            0x53,
            0x4e,
            3,
            .. "ram"u8,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            4,
            0,
            0,
            0,
            0,
            0,
            0,
            0x40,
            0x04,
            6,
            .. "pc.ram"u8,
            0,
            0,
            0,
            0,
            0,
            0,
            0x30,
            0,
            3,
            .. "rom"u8,
            0,
            0,
            0,
            0,
            0,
            0,
            0x10,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0x10,
            0x7e,
            0x42,
            0x47,
            0x53,
            0x4e,
            3,
            0x42,
            0x47,
            0x53,
            0x4e,
            0,
            0,
            0,
            0,
            0,
            0,
            0x00,
            0x08,
            6,
            .. "pc.ram"u8,
            .. Page(0x11),
            0,
            0,
            0,
            0,
            0,
            0,
            0x10,
            0x22,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0x20,
            0x28,
            .. Page(0x22),
            0,
            0,
            0,
            0,
            0,
            0,
            0x00,
            0x02,
            3,
            .. "rom"u8,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0x10,
            0x7e,
            0x42,
            0x47,
            0x53,
            0x4e,
            .. Devices,
            6,
            0,
            0,
            0,
            2,
            (byte)'{',
            (byte)'}',
        ];
        Assert.Equal(expected, stream);
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(2, 2)]
    [InlineData(3, 8)]
    public void What_was_written_is_read_back(int seed, int threads)
    {
        var random = new Random(seed);
        var ram = new MemoryRam();
        for (int i = 0; i < 40; i++)
            ram.Add($"/rom@etc/block-{i}", RandomRam(random, random.Next(1, i == 7 ? 2000 : 70)));

        byte[] stream = Write(ram, new MigrationStreamWriterOptions { ReaderThreads = threads });
        (MemoryRam read, MigrationStreamContents contents) = Parse(stream);

        read.AssertSame(ram);
        Assert.Equal(Machine, contents.MachineType);
        Assert.Equal(DeviceStateBytes, contents.DeviceState.Bytes.ToArray());
        Assert.Null(contents.Description);
        Assert.Equal(stream.Length, contents.Length);
        Assert.Equal(ram.Memory.Sum(m => (long)m.Length) / 4096, contents.Pages + contents.ZeroPages);
    }

    [Fact]
    public void Every_pattern_of_zero_pages_is_sent()
    {
        byte[] memory = new byte[1024 * 65536];
        // Granule n of 1024 has the page pattern n * 64 + n / 16: each bit set and unset, including empty and full.
        int granules = memory.Length / 65536;
        for (int granule = 0; granule < granules; granule++)
        {
            int pattern = granule == granules - 1 ? 0xffff : (granule * 64) | (granule / 16);
            for (int page = 0; page < 16; page++)
                memory[granule * 65536 + page * 4096 + granule % 4096] = (byte)(pattern >> page & 1);
        }
        var ram = new MemoryRam().Add("pc.ram", memory);
        (MemoryRam read, MigrationStreamContents contents) = Parse(Write(ram));
        read.AssertSame(ram);
        Assert.True(contents.ZeroPages > 0 && contents.Pages > 0);
    }

    [Fact]
    public void An_empty_guest_costs_nine_bytes_a_page()
    {
        const int pages = 16384;
        byte[] stream = Write(new MemoryRam().Add("pc.ram", new byte[pages * 4096]));
        Assert.InRange(stream.Length, pages * 9, pages * 9 + 4096);
        Assert.Equal(pages, Parse(stream).Contents.ZeroPages);
    }

    [Fact]
    public void Pages_of_left_out_blocks_are_not_sent_but_the_blocks_are_announced()
    {
        var ram = new MemoryRam().Add("pc.ram", Page(1)).Add("pc.bios", Page(2));
        var seen = new List<RamProgress>();
        (MemoryRam read, MigrationStreamContents contents) = Parse(
            Write(ram, new MigrationStreamWriterOptions { SendPagesOf = block => block == 1, Progress = seen.Add })
        );
        Assert.Equal(ram.Blocks, read.Blocks);
        Assert.Equal(1, contents.Pages);
        Assert.Equal(Page(0xee), read.Memory[0]);
        Assert.Equal(Page(2), read.Memory[1]);
        Assert.Equal([new RamProgress(4096, 4096)], seen);
    }

    [Fact]
    public void Zero_pages_are_left_out_only_where_the_target_is_known_to_be_zero()
    {
        byte[] memory = new byte[64 * 65536];
        memory[3 * 65536 + 5 * 4096] = 1;
        var ram = new MemoryRam().Add("pc.ram", memory).Add("other", new byte[4096]);
        (MemoryRam read, MigrationStreamContents contents) = Parse(
            Write(ram, new MigrationStreamWriterOptions { IsZeroInTarget = (block, granule) => block == 0 && granule != 1 })
        );
        Assert.Equal((1, 17), (contents.Pages, contents.ZeroPages));
        Assert.Equal(1, read.Memory[0][3 * 65536 + 5 * 4096]);
        Assert.Equal(new byte[65536], read.Memory[0].AsSpan(65536, 65536).ToArray());
        Assert.Equal(new byte[4096], read.Memory[1]);
    }

    [Fact]
    public void Progress_rises_to_the_total()
    {
        var seen = new List<RamProgress>();
        var ram = new MemoryRam().Add("a", RandomRam(new Random(4), 1000)).Add("b", RandomRam(new Random(5), 33));
        Write(ram, new MigrationStreamWriterOptions { Progress = seen.Add });
        Assert.Equal(1033ul * 4096, seen[^1].SentBytes);
        Assert.All(seen, p => Assert.Equal(1033ul * 4096, p.TotalBytes));
        Assert.Equal(seen.OrderBy(p => p.SentBytes), seen);
    }

    [Theory]
    [InlineData("", 4096)]
    [InlineData("a\u00e4", 4096)]
    [InlineData("a", 0)]
    [InlineData("a", 4095)]
    public void A_block_that_no_stream_can_carry_is_refused(string name, int length) =>
        Assert.Throws<ArgumentException>(() =>
            new MigrationStreamWriter(Machine, new MemoryRam().Add(name, new byte[length]), DeviceState)
        );

    [Fact]
    public void A_device_section_with_the_id_of_ram_is_refused()
    {
        var state = DeviceStateFile.Parse((byte[])[.. FileHeader, .. Device(RamId, "timer", 1), 0]);
        Assert.Throws<ArgumentException>(() => new MigrationStreamWriter(Machine, new MemoryRam().Add("a", Page(1)), state));
    }

    internal static byte[] RandomRam(Random random, int pages)
    {
        byte[] memory = new byte[pages * 4096];
        random.NextBytes(memory);
        for (int page = 0; page < pages; page++)
        {
            if (random.Next(3) == 0)
                memory.AsSpan(page * 4096, 4096).Clear();
        }
        return memory;
    }
}
