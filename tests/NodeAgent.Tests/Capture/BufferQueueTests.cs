using Bgsnap.Engine.Capture;

namespace Bgsnap.NodeAgent.Tests.Capture;

public sealed class BufferQueueTests
{
    [Fact]
    public void First_in_first_out_around_the_ring()
    {
        BufferQueue queue = new(3);
        Assert.Equal(-1, queue.TryTake());
        int next = 0,
            expected = 0;
        for (int round = 0; round < 10; round++)
        {
            queue.Add(next++);
            queue.Add(next++);
            Assert.Equal(expected++, queue.TryTake());
            Assert.Equal(expected++, queue.Take());
            Assert.Equal(0, queue.Count);
        }
        queue.Add(1);
        queue.Add(2);
        queue.Add(3);
        Assert.Equal(3, queue.Count);
    }

    [Fact]
    public void Closed_it_gives_what_is_left_and_then_the_end()
    {
        BufferQueue queue = new(4);
        queue.Add(5);
        queue.Add(6);
        queue.Close();
        Assert.True(queue.IsClosed);
        Assert.Equal([5, 6, -1, -1], [queue.Take(), queue.Take(), queue.Take(), queue.Take()]);
    }

    [Fact]
    public async Task Waiters_are_woken_by_what_comes_and_by_the_end()
    {
        BufferQueue queue = new(4);
        Task<int> first = Task.Run(queue.Take);
        await Task.Delay(50);
        Assert.False(first.IsCompleted);
        queue.Add(9);
        Assert.Equal(9, await first.WaitAsync(TimeSpan.FromSeconds(20)));
        Task<int>[] rest = [Task.Run(queue.Take), Task.Run(queue.Take)];
        await Task.Delay(50);
        queue.Close();
        int[] ends = await Task.WhenAll(rest).WaitAsync(TimeSpan.FromSeconds(20));
        Assert.Equal([-1, -1], ends);
    }

    [Fact]
    public async Task Between_threads_each_is_taken_once()
    {
        const int perProducer = 20_000,
            producers = 3;
        BufferQueue queue = new(perProducer * producers);
        Task<List<int>>[] takers =
        [
            .. Enumerable
                .Range(0, 3)
                .Select(_ =>
                    Task.Run(() =>
                    {
                        List<int> mine = [];
                        for (int n; (n = queue.Take()) >= 0; )
                            mine.Add(n);
                        return mine;
                    })
                ),
        ];
        await Task.WhenAll(
            Enumerable
                .Range(0, producers)
                .Select(p =>
                    Task.Run(() =>
                    {
                        for (int i = 0; i < perProducer; i++)
                            queue.Add(p * perProducer + i);
                    })
                )
        );
        queue.Close();
        List<int>[] taken = await Task.WhenAll(takers).WaitAsync(TimeSpan.FromSeconds(60));
        Assert.Equal(Enumerable.Range(0, perProducer * producers), taken.SelectMany(t => t).Order());
    }
}
