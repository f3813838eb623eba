using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>A queue of buffer numbers between threads, of fixed size, first in first out.</summary>
internal sealed class BufferQueue(int capacity)
{
    private readonly int[] _ring = new int[capacity];
    private readonly Lock _lock = new();
    private readonly FutexGate _changed = new();
    private int _head;
    private int _count;
    private bool _closed;

    internal int Count => Volatile.Read(ref _count);

    /// <summary>No more will come: waiters get what is left, then -1.</summary>
    internal void Close()
    {
        Volatile.Write(ref _closed, true);
        _changed.Open();
    }

    internal bool IsClosed => Volatile.Read(ref _closed);

    internal void Add(int buffer)
    {
        lock (_lock)
        {
            // There are as many places as buffers, so the ring cannot be full.
            _ring[(_head + _count) % _ring.Length] = buffer;
            _count++;
        }
        _changed.Open();
    }

    internal int TryTake()
    {
        lock (_lock)
        {
            if (_count == 0)
                return -1;
            int taken = _ring[_head];
            _head = (_head + 1) % _ring.Length;
            _count--;
            return taken;
        }
    }

    /// <summary>Waits for the next one.</summary>
    /// <returns>A buffer number, or -1 when the queue is closed and empty.</returns>
    internal int Take()
    {
        while (true)
        {
            int sample = _changed.Sample();
            int taken = TryTake();
            if (taken >= 0)
                return taken;
            if (IsClosed)
                return -1;
            _changed.Wait(sample, 1000);
        }
    }
}
