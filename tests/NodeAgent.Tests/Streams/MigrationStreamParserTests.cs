using Bgsnap.SnapshotFormat.Streams;
using static Bgsnap.NodeAgent.Tests.Streams.StreamSamples;

namespace Bgsnap.NodeAgent.Tests.Streams;

public class MigrationStreamParserTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_background_snapshot_is_read(bool description)
    {
        (MemoryRam ram, MigrationStreamContents contents) = Parse(BackgroundSnapshot(description));
        Assert.Equal([new("pc.ram", 0x4000), new("pc.bios", 0x1000)], contents.Blocks);
        Assert.Equal([.. Page(0x11), .. Page(0), .. Page(0x22), .. Page(0)], ram.Memory[0]);
        Assert.Equal(Page(0x33), ram.Memory[1]);
        Assert.Equal((3, 2), (contents.Pages, contents.ZeroPages));
        Assert.Equal(DeviceStateBytes, contents.DeviceState.Bytes.ToArray());
        Assert.Equal(["timer", "0000:00:02.0/vga"], contents.DeviceState.Sections.Select(s => s.Name));
        Assert.Equal(description ? 2 : null, contents.Description?.Devices.Count);
    }

    [Fact]
    public void A_stream_may_come_byte_by_byte()
    {
        byte[] stream = BackgroundSnapshot();
        var ram = new MemoryRam();
        var parser = new MigrationStreamParser(ram);
        foreach (byte b in stream)
            parser.Feed([b]);
        MigrationStreamContents contents = parser.Complete();
        ram.AssertSame(Parse(stream).Ram);
        Assert.Equal(stream.Length, contents.Length);
        Assert.Equal(DeviceStateBytes, contents.DeviceState.Bytes.ToArray());
    }

    [Theory]
    [InlineData(1, 9)]
    [InlineData(2, 5000)]
    [InlineData(3, 300000)]
    public void A_stream_may_come_in_pieces_of_any_size(int seed, int largest)
    {
        var random = new Random(seed);
        var ram = new MemoryRam();
        for (int i = 0; i < 9; i++)
            ram.Add($"block-{i}", MigrationStreamWriterTests.RandomRam(random, random.Next(1, 100)));
        byte[] stream = Write(ram);

        var read = new MemoryRam();
        var parser = new MigrationStreamParser(read);
        for (int at = 0; at < stream.Length; )
        {
            int length = Math.Min(random.Next(0, largest), stream.Length - at);
            parser.Feed(stream.AsSpan(at, length));
            at += length;
        }
        parser.Complete();
        read.AssertSame(ram);
    }

    [Fact]
    public void A_stream_can_be_pulled()
    {
        var ram = new MemoryRam();
        byte[] stream = BackgroundSnapshot();
        Assert.Equal(stream.Length, MigrationStreamParser.Parse(new MemoryStream(stream), ram).Length);
        ram.AssertSame(Parse(stream).Ram);
    }

    [Fact]
    public void Subsections_that_change_nothing_are_read()
    {
        byte[] stream = Insert(
            [5, .. Name("configuration/target-page-bits"), .. Be32(1), .. Be32(12)],
            [5, .. Name("configuration/capabilities"), .. Be32(1), .. Be32(0)],
            [5, .. Name("configuration/uuid"), .. Be32(1), .. new byte[16]]
        );
        Assert.Equal(3, Parse(stream).Contents.Pages);
        Assert.Equal(3, ParseByByte(stream).Pages);
    }

    [Fact]
    public void The_switchover_command_of_newer_qemu_is_read() => Assert.Equal(3, Parse(Insert([8, 0, 11, 0, 0])).Contents.Pages);

    [Fact]
    public void Pages_that_come_again_replace_the_first_ones()
    {
        byte[] stream =
        [
            .. FileHeader,
            .. Configuration,
            .. RamStart(2, ("pc.ram", 0x1000)),
            .. RamSection(2, 2, [.. Be64(8), .. Name("pc.ram"), .. Page(1)]),
            .. RamSection(3, 2, [.. Be64(0x28), .. Page(2)]),
            .. Devices,
        ];
        Assert.Equal(Page(2), Parse(stream).Ram.Memory[0]);
    }

    [Fact]
    public void The_sinks_own_error_reaches_the_feeder()
    {
        var parser = new MigrationStreamParser(new FailingSink());
        Assert.Throws<InvalidTimeZoneException>(() => parser.Feed(BackgroundSnapshot()));
    }

    internal static byte[] Insert(params byte[][] afterConfiguration)
    {
        byte[] stream = BackgroundSnapshot();
        int at = FileHeader.Length + Configuration.Length;
        return [.. stream[..at], .. afterConfiguration.SelectMany(b => b), .. stream[at..]];
    }

    private static MigrationStreamContents ParseByByte(byte[] stream)
    {
        var parser = new MigrationStreamParser(new MemoryRam());
        foreach (byte b in stream)
            parser.Feed([b]);
        return parser.Complete();
    }

    private sealed class FailingSink : IMigrationStreamSink
    {
        public void OnBlocks(IReadOnlyList<StreamRamBlock> blocks) { }

        public void OnPage(int block, ulong offset, ReadOnlySpan<byte> page) => throw new InvalidTimeZoneException();

        public void OnZeroPage(int block, ulong offset) { }
    }
}
