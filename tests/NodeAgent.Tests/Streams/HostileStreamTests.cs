using System.Diagnostics;
using Bgsnap.SnapshotFormat.Streams;
using static Bgsnap.NodeAgent.Tests.Streams.StreamSamples;

namespace Bgsnap.NodeAgent.Tests.Streams;

/// <summary>Truncated, damaged and malicious streams.</summary>
public class HostileStreamTests
{
    public static TheoryData<string, byte[]> Refused() =>
        new()
        {
            { "magic is wrong", [.. "QEVX"u8, .. Be32(3)] },
            { "version 2", [.. "QEVM"u8, .. Be32(2)] },
            { "no configuration section", [.. FileHeader, .. RamStart(2, ("a", 4096))] },
            { "cannot have 4294967295 characters", [.. FileHeader, 7, .. Be32(uint.MaxValue)] },
            { "cannot have 0 characters", [.. FileHeader, 7, .. Be32(0)] },
            {
                "'x-ignore-shared' must be off",
                MigrationStreamParserTests.Insert([
                    5,
                    .. Name("configuration/capabilities"),
                    .. Be32(1),
                    .. Be32(1),
                    .. Name("x-ignore-shared"),
                ])
            },
            { "2^13 bytes", MigrationStreamParserTests.Insert([5, .. Name("configuration/target-page-bits"), .. Be32(1), .. Be32(13)]) },
            { "'configuration/new'", MigrationStreamParserTests.Insert([5, .. Name("configuration/new"), .. Be32(1)]) },
            { "command 3", MigrationStreamParserTests.Insert([8, 0, 3, 0, 16, .. new byte[16]]) },
            { "Section 'dirty-bitmap'", MigrationStreamParserTests.Insert(Head(1, 5, "dirty-bitmap", 1)) },
            { "Device 'virtio-mem'", MigrationStreamParserTests.Insert(Device(5, "virtio-mem", 1)) },
            { "version 5", Begun(Head(1, 2, "ram", 5)) },
            { "size of RAM", Begun([.. Head(1, 2, "ram", 4), .. Be64(4096)]) },
            { "cannot have 0 bytes of RAM", Begun([.. Head(1, 2, "ram", 4), .. Be64(4)]) },
            { "bytes of RAM", Begun([.. Head(1, 2, "ram", 4), .. Be64(0xfffffffffffff004)]) },
            { "'a' cannot have 8192 bytes", Begun([.. Head(1, 2, "ram", 4), .. Be64(4100), .. Name("a"), .. Be64(8192)]) },
            { "'a' cannot have 0 bytes", Begun([.. Head(1, 2, "ram", 4), .. Be64(4100), .. Name("a"), .. Be64(0)]) },
            { "announced twice", Begun(RamStart(2, ("a", 4096), ("a", 4096))) },
            { "name of a RAM block", Begun(RamStart(2, ("", 4096))) },
            { "name of a RAM block", Begun(RamStart(2, ("a\u0001", 4096))) },
            { "more than 4096 RAM blocks", Begun(RamStart(2, [.. Enumerable.Range(0, 4097).Select(i => ($"b{i}", 4096ul))])) },
            {
                "does not end where its sizes say",
                Begun([.. Head(1, 2, "ram", 4), .. Be64(4100), .. Name("a"), .. Be64(4096), .. Be64(0x20)])
            },
            { "has id 3", Begun([.. RamStart(2, ("a", 4096))[..^4], .. Be32(3)]) },
            { "second RAM section", Begun([.. RamStart(2, ("a", 4096)), .. RamStart(2, ("a", 4096))]) },
            { "Section 9 was not announced", Ram(RamSection(2, 9)) },
            { "names no RAM block", Ram([2, .. Be32(2), .. Be64(0x28), .. Page(1)]) },
            { "RAM block 'b', which was not announced", Ram([2, .. Be32(2), .. Be64(0x8), .. Name("b"), .. Page(1)]) },
            { "outside RAM block 'a'", Ram([2, .. Be32(2), .. Be64(0x1008), .. Name("a"), .. Page(1)]) },
            { "outside RAM block 'a'", Ram([2, .. Be32(2), .. Be64(0xfffffffffffff008), .. Name("a"), .. Page(1)]) },
            { "xbzrle", Ram([2, .. Be32(2), .. Be64(0x40), .. Name("a")]) },
            { "multifd", Ram([2, .. Be32(2), .. Be64(0x200)]) },
            { "flags 0xa", Ram([2, .. Be32(2), .. Be64(0xa), .. Name("a")]) },
            { "fill byte", Ram([2, .. Be32(2), .. Be64(0x2), .. Name("a"), 7]) },
            { "end mark of a RAM section", Ram([2, .. Be32(2), .. Be64(0x1010)]) },
            { "footer", Ram([2, .. Be32(2), .. Be64(0x10), 0x7f]) },
            { "not type 0x00", Ram([.. RamSection(3, 2), 0]) },
            { "not type 0x02", Ram([.. RamSection(3, 2), .. RamSection(2, 2)]) },
        };

    [Theory]
    [MemberData(nameof(Refused))]
    public void What_we_do_not_read_is_refused_with_the_reason(string reason, byte[] stream)
    {
        var e = Assert.Throws<MigrationStreamException>(() => Parse(stream));
        Assert.Contains(reason, e.Message, StringComparison.Ordinal);
        Assert.InRange(e.Offset, 0, stream.Length);
    }

    [Fact]
    public void A_stream_cut_anywhere_is_refused()
    {
        byte[] stream = BackgroundSnapshot();
        int devicesEnd = stream.Length - DescriptionBytes(Description).Length;
        for (int length = 0; length < stream.Length; length++)
        {
            // For a machine that suppresses the description, the stream ends there.
            if (length == devicesEnd)
                continue;
            var e = Assert.Throws<MigrationStreamException>(() => Parse(stream[..length]));
            Assert.InRange(e.Offset, 0, length);
        }
    }

    [Fact]
    public void No_damaged_byte_makes_the_parser_crash_or_hang()
    {
        byte[] stream = BackgroundSnapshot();
        var clock = Stopwatch.StartNew();
        int refused = 0;
        for (int at = 0; at < stream.Length; at++)
        {
            // The pages' contents have no structure; a few of their bytes are enough.
            if (stream[at] is 0x11 or 0x22 or 0x33 && at % 64 != 0)
                continue;
            foreach (int flip in (int[])[0x01, 0x08, 0x10, 0x20, 0x80, 0xff])
            {
                byte[] damaged = (byte[])stream.Clone();
                damaged[at] ^= (byte)flip;
                try
                {
                    Parse(damaged);
                }
                catch (MigrationStreamException e)
                {
                    Assert.InRange(e.Offset, 0, stream.Length);
                    refused++;
                }
            }
        }
        Assert.True(refused > 500, $"only {refused} were refused");
        Assert.True(clock.Elapsed < TimeSpan.FromMinutes(1));
    }

    [Fact]
    public void A_damaged_description_is_refused()
    {
        foreach (
            string json in (string[])
                [
                    "{\"devices\": [}",
                    "{\"devices\": 3}",
                    "{\"devices\": [3]}",
                    "{\"devices\": [{}]}",
                    "{\"devices\": [{\"name\": \"timer\", \"instance_id\": 1e99}]}",
                    "{\"devices\": [{\"name\": \"\\ud800\", \"instance_id\": 0}]}",
                    "{\"devices\": []}",
                    "{} {}",
                    Description.Replace("vga", "vgb", StringComparison.Ordinal),
                    Description[..^2] + "}}",
                ]
        )
        {
            byte[] stream = [.. BackgroundSnapshot(description: false), .. DescriptionBytes(json)];
            Assert.Throws<MigrationStreamException>(() => Parse(stream));
        }
    }

    private static byte[] Begun(byte[] rest) => [.. FileHeader, .. Configuration, .. rest];

    private static byte[] Ram(byte[] rest) => Begun([.. RamStart(2, ("a", 4096)), .. rest]);
}
