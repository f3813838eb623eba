using Bgsnap.Engine.Capture;

namespace Bgsnap.NodeAgent.Tests.Capture;

public sealed class StageTests
{
    [Theory]
    [InlineData(0, 16, 4)]
    [InlineData(20, 20, 5)]
    [InlineData(64, 64, 16)]
    [InlineData(100, 100, 16)]
    public void A_quarter_but_at_most_sixteen_are_kept_for_faults(int buffers, int count, int reserve)
    {
        using Stage stage = new((long)buffers * Stage.BufferSize);
        Assert.Equal((count, reserve, (long)count * Stage.BufferSize), (stage.Count, stage.Reserve, stage.Bytes));
    }

    [Fact]
    public void The_sweep_leaves_the_reserve_and_a_fault_takes_it()
    {
        using Stage stage = new(0);
        HashSet<int> taken = [];
        for (int i = 0; i < stage.Count - stage.Reserve; i++)
            Assert.True(taken.Add(stage.TryTake(forFault: false)));
        Assert.Equal(-1, stage.TryTake(forFault: false));
        for (int i = 0; i < stage.Reserve; i++)
            Assert.True(taken.Add(stage.TryTake(forFault: true)));
        Assert.Equal(-1, stage.TryTake(forFault: true));
        Assert.Equal(Enumerable.Range(0, stage.Count), taken.Order());

        // Returned buffers fill the reserve first.
        for (int i = 0; i < stage.Reserve; i++)
        {
            stage.Return(i);
            Assert.Equal(-1, stage.TryTake(forFault: false));
        }
        stage.Return(stage.Reserve);
        Assert.Equal(stage.Reserve, stage.TryTake(forFault: false));
    }

    [Fact]
    public unsafe void Buffers_do_not_overlap_and_come_back_empty()
    {
        using Stage stage = new(0);
        for (int i = 0; i < stage.Count; i++)
            new Span<byte>(stage[i].Memory, Stage.BufferSize).Fill((byte)(i + 1));
        for (int i = 0; i < stage.Count; i++)
            Assert.Equal(-1, new Span<byte>(stage[i].Memory, Stage.BufferSize).IndexOfAnyExcept((byte)(i + 1)));

        int number = stage.TryTake(forFault: false);
        Stage.Buffer buffer = stage[number];
        Assert.True(buffer.Add(7, 4096) == buffer.Memory);
        Assert.True(buffer.Add(8, 65536) == buffer.Memory + GuestRam.GranuleSize);
        Assert.Equal((2, 7L, 4096, 8L), (buffer.Count, buffer.Granules[0], buffer.Lengths[0], buffer.Granules[1]));
        stage.Return(number);
        Assert.Equal(number, stage.TryTake(forFault: false));
        Assert.Equal(0, buffer.Count);
    }

    [Fact]
    public async Task Who_waits_is_woken_by_a_return()
    {
        using Stage stage = new(0);
        Task waiting = Task.Run(() => stage.WaitFreed(60_000));
        for (long end = Environment.TickCount64 + 20_000; !waiting.IsCompleted && Environment.TickCount64 < end; await Task.Delay(5))
        {
            stage.Return(stage.TryTake(forFault: true));
        }
        Assert.True(waiting.IsCompleted);
    }
}
