using Bgsnap.Linux;

namespace Bgsnap.Engine.Restore.Instant;

/// <summary>A thread of QEMU that waits for a page.</summary>
/// <param name="Address">Address of the page.</param>
/// <param name="ReadAt">When the agent read the fault, in ticks of the stopwatch.</param>
internal readonly record struct Fault(ulong Address, long ReadAt);

/// <summary>
/// Queue of faults between the thread that reads them and the threads that serve them. Allocates nothing once constructed.
/// </summary>
internal sealed class FaultQueue
{
    private const int Capacity = 4096;
    private readonly Fault[] _ring = new Fault[Capacity];
    private readonly Lock _lock = new();
    private readonly FutexGate _added = new();
    private long _head;
    private long _tail;

    /// <summary>Whether no fault waits.</summary>
    internal bool IsEmpty => Volatile.Read(ref _head) == Volatile.Read(ref _tail);

    /// <summary>Adds a fault; false: the queue is full, and the caller has to wait for the servers.</summary>
    internal bool TryAdd(Fault fault)
    {
        lock (_lock)
        {
            if (_tail - _head == Capacity)
                return false;
            _ring[_tail % Capacity] = fault;
            Volatile.Write(ref _tail, _tail + 1);
        }
        _added.Open();
        return true;
    }

    internal bool TryTake(out Fault fault)
    {
        fault = default;
        if (IsEmpty)
            return false;
        lock (_lock)
        {
            if (_head == _tail)
                return false;
            fault = _ring[_head % Capacity];
            Volatile.Write(ref _head, _head + 1);
            return true;
        }
    }

    /// <summary>Waits until there may be a fault, or for a tenth of a second.</summary>
    internal void Wait()
    {
        int sample = _added.Sample();
        if (IsEmpty)
            _added.Wait(sample, 100);
    }
}
