using Bgsnap.Engine.Capture;

namespace Bgsnap.NodeAgent.Tests.Capture;

public sealed class ProtectionNotesTests
{
    private const int Capacity = 64 * 1024;

    [Fact]
    public void Notes_are_taken_once_and_in_order()
    {
        ProtectionNotes notes = new();
        foreach (long g in (ReadOnlySpan<long>)[30, 7, 7, 1L << 40, 8])
            notes.Add(g);
        Assert.Equal(5, notes.Count);
        Assert.Equal([7L, 7, 8, 30, 1L << 40], notes.Take(out bool overflow).ToArray());
        Assert.False(overflow);
        Assert.Equal(0, notes.Count);
        Assert.True(notes.Take(out _).IsEmpty);
    }

    [Theory]
    [InlineData(Capacity, false)]
    [InlineData(Capacity + 1, true)]
    [InlineData(Capacity * 3, true)]
    public void More_than_fit_means_everything(int count, bool expected)
    {
        ProtectionNotes notes = new();
        for (int i = 0; i < count; i++)
            notes.Add(i);
        _ = notes.Take(out bool overflow);
        Assert.Equal(expected, overflow);

        // Then it starts over.
        notes.Add(3);
        Assert.Equal([3L], notes.Take(out overflow).ToArray());
        Assert.False(overflow);
    }

    [Fact]
    public async Task Nothing_noted_while_taking_is_lost()
    {
        const int total = 200_000;
        ProtectionNotes notes = new();
        Task writer = Task.Run(() =>
        {
            for (int i = 0; i < total; i++)
            {
                // Stay within the capacity: this test is about loss, not about overflow.
                while (notes.Count >= Capacity / 2)
                    Thread.Yield();
                notes.Add(i);
            }
        });
        HashSet<long> seen = [];
        while (!writer.IsCompleted || notes.Count > 0)
        {
            long[] taken = notes.Take(out bool overflow).ToArray();
            Assert.False(overflow);
            foreach (long g in taken)
                Assert.True(seen.Add(g));
        }
        await writer;
        Assert.Equal(total, seen.Count);
    }
}
