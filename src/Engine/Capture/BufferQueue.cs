using Bgsnap.Linux;

namespace Bgsnap.Engine.Capture;

/// <summary>A FIFO queue of buffer numbers between threads, of fixed size.</summary>
/// <remarks>
/// "Empty" and "closed" are checked under one lock. A taker that saw the queue empty first and closed later would miss what was added in
/// between, and the snapshot would read as zeroes there.
/// </remarks>
internal sealed class BufferQueue(int capacity)
{
    private readonly int[] _ring = new int[capacity];
    private readonly FutexLock _lock = new();
    private readonly FutexGate _changed = new();
    private int _head;
    private int _count;
    private bool _closed;

    internal int Count => Volatile.Read(ref _count);

    internal bool IsClosed => Volatile.Read(ref _closed);

    /// <summary>Closes the queue: waiters get what is left, then -1.</summary>
    internal void Close()
    {
        using (_lock.Enter())
            Volatile.Write(ref _closed, true);
        _changed.Open();
    }

    internal void Add(int buffer)
    {
        using (_lock.Enter())
        {
            // The ring has as many slots as there are buffers, so it cannot be full.
            _ring[(_head + _count) % _ring.Length] = buffer;
            _count++;
        }
        _changed.Open();
    }

    /// <returns>A buffer number, or -1 when the queue is empty now.</returns>
    internal int TryTake() => TryTake(out _);

    /// <summary>Waits for the next buffer.</summary>
    /// <returns>A buffer number, or -1 when the queue is closed and empty.</returns>
    internal int Take()
    {
        while (true)
        {
            int sample = _changed.Sample();
            int taken = TryTake(out bool ended);
            if (taken >= 0 || ended)
                return taken;
            _changed.Wait(sample, 1000);
        }
    }

    /// <summary>Waits until a buffer is added, the queue is closed, or the timeout passes.</summary>
    internal void WaitChanged(int milliseconds)
    {
        int sample = _changed.Sample();
        if (Count == 0 && !IsClosed)
            _changed.Wait(sample, milliseconds);
    }

    private int TryTake(out bool ended)
    {
        using (_lock.Enter())
        {
            ended = _closed && _count == 0;
            if (_count == 0)
                return -1;
            int taken = _ring[_head];
            _head = (_head + 1) % _ring.Length;
            _count--;
            return taken;
        }
    }
}
