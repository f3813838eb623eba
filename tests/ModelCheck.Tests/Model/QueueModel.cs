using Bgsnap.Engine.Capture;
using Thread = Bgsnap.Thread;

namespace ModelCheck.Model;

/// <summary>A queue of buffers between two threads, which a third closes when the first has ended.</summary>
internal interface IBufferQueue
{
    void Add(int buffer);

    void Close();

    int Take();
}

/// <summary>The agent's queue.</summary>
internal sealed class RealQueue : IBufferQueue
{
    private readonly BufferQueue _queue = new(4);

    public void Add(int buffer) => _queue.Add(buffer);

    public void Close() => _queue.Close();

    public int Take() => _queue.Take();
}

/// <summary>The agent's queue, taken from as it once was: first whether there is something, then whether more will come.</summary>
internal sealed class QueueAsItWas : IBufferQueue
{
    private readonly BufferQueue _queue = new(4);

    public void Add(int buffer) => _queue.Add(buffer);

    public void Close() => _queue.Close();

    public int Take()
    {
        while (true)
        {
            int taken = _queue.TryTake();
            if (taken >= 0)
                return taken;
            if (_queue.IsClosed)
                return -1;
            Thread.Sleep(1);
        }
    }
}

/// <summary>Whatever is added before the queue is closed is taken, once.</summary>
internal static class QueueModel
{
    internal static void Run(IBufferQueue queue, int buffers, int takers)
    {
        List<int> taken = [];
        Thread[] taking =
        [
            .. Enumerable
                .Range(0, takers)
                .Select(n => Begin($"taker{n}", () =>
                    {
                        for (int b; (b = queue.Take()) >= 0; )
                            taken.Add(b);
                    })),
        ];
        Thread adding = Begin("adder", () =>
        {
            for (int b = 0; b < buffers; b++)
                queue.Add(b);
        });
        adding.Join();
        queue.Close();
        foreach (Thread t in taking)
            t.Join();
        taken.Sort();
        if (!taken.SequenceEqual(Enumerable.Range(0, buffers)))
            throw new InvalidOperationException($"{buffers} buffers were added, and these were taken: {string.Join(", ", taken)}");
    }

    private static Thread Begin(string name, Action body)
    {
        Thread thread = new(() => body(), 0) { Name = name };
        thread.Start();
        return thread;
    }
}
