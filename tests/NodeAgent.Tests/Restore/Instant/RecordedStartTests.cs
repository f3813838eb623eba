using Bgsnap.Engine.Restore.Instant;

namespace Bgsnap.NodeAgent.Tests.Restore.Instant;

public sealed class RecordedStartTests
{
    private static readonly Guid Id = Guid.Parse("0f6d1a52-6f0c-4a51-9f5e-0f3c5f2a9b11");

    // Two blocks of the log: 0 with 4 KiB pages, and 3, after it, with huge pages of 2 MiB.
    private static readonly LazyBlock[] Blocks =
    [
        new(0, "a", 0x10000000, 10 << 16, 4096, 0),
        new(3, "b", 0x20000000, 4 << 21, 2 << 20, 10),
    ];

    [Fact]
    public void What_was_written_is_read_as_units()
    {
        var bytes = RecordedStart.Format(Id, [(0, 7), (3, 64), (0, 0)]);

        Assert.Equal([7, 12, 0], RecordedStart.Parse(bytes, Id, Blocks));
    }

    [Fact]
    public void What_no_block_has_is_left_out() =>
        Assert.Equal([9], RecordedStart.Parse(RecordedStart.Format(Id, [(0, 10), (1, 0), (0, 9), (3, 1L << 39), (3, 128)]), Id, Blocks));

    [Fact]
    public void A_record_of_another_snapshot_is_none() =>
        Assert.Empty(RecordedStart.Parse(RecordedStart.Format(Guid.NewGuid(), [(0, 7)]), Id, Blocks));

    [Fact]
    public void A_record_with_any_byte_wrong_or_missing_is_none()
    {
        var sound = RecordedStart.Format(Id, [(0, 7), (3, 64)]);
        for (var i = 0; i < sound.Length; i++)
        {
            var damaged = sound.ToArray();
            damaged[i] ^= 0x10;
            Assert.Empty(RecordedStart.Parse(damaged, Id, Blocks));
            Assert.Empty(RecordedStart.Parse(sound.AsSpan(0, i), Id, Blocks));
        }
    }
}
