using Bgsnap.Linux;

namespace Bgsnap.Engine.Disks;

/// <summary>
/// Buffers between the readers of a disk and the writer of its file. Readers fill them in parallel; the writer gets them in the order in
/// which they were handed out. Nothing is allocated per chunk.
/// </summary>
internal sealed unsafe class ChunkRing : IDisposable
{
    private const int MaxOutstanding = 32;

    // One more than can be outstanding, so that there is always a slot for the end marker.
    private const int Slots = MaxOutstanding + 1;

    private readonly Lock _lock = new();
    private readonly Slot[] _slots = new Slot[Slots];
    private readonly SemaphoreSlim _free = new(MaxOutstanding);
    private readonly SemaphoreSlim[] _ready = [.. Enumerable.Range(0, Slots).Select(_ => new SemaphoreSlim(0))];
    private readonly byte* _memory = NativeMemoryMap.Allocate(Slots * ReadPlan.ChunkSize);
    private long _handedOut;
    private long _taken;

    private struct Slot
    {
        internal long Offset;
        internal int Length;
    }

    /// <summary>Waits for a free buffer and the next chunk to read into it.</summary>
    /// <returns>The buffer's number; -1 if there are no more chunks.</returns>
    /// <exception cref="OperationCanceledException">The copy was cancelled.</exception>
    public int Take(ReadPlan plan, Nbd.NbdClient client, bool trim, CancellationToken cancel, out long offset, out int length)
    {
        _free.Wait(cancel);
        // The lock keeps chunks and buffers in the same order, even while the plan asks the server for more extents.
        lock (_lock)
        {
            if (!plan.TryNext(client, trim, out offset, out length))
            {
                _free.Release();
                return -1;
            }
            int number = (int)(_handedOut++ % Slots);
            _slots[number] = new Slot { Offset = offset, Length = length };
            return number;
        }
    }

    /// <summary>Address of a buffer's bytes.</summary>
    public byte* Memory(int number) => _memory + ((long)number * ReadPlan.ChunkSize);

    /// <summary>Marks the buffer as filled.</summary>
    public void Filled(int number) => _ready[number].Release();

    /// <summary>Marks the end: all readers have ended, and nothing follows what was handed out.</summary>
    public void End()
    {
        int number = (int)(_handedOut % Slots);
        _slots[number].Length = 0;
        _ready[number].Release();
    }

    /// <summary>Waits for the next filled buffer in order.</summary>
    /// <returns>Its number; -1 after the last one.</returns>
    public int Next(CancellationToken cancel, out long offset, out int length)
    {
        int number = (int)(_taken % Slots);
        _ready[number].Wait(cancel);
        (offset, length) = (_slots[number].Offset, _slots[number].Length);
        if (length == 0)
            return -1;
        _taken++;
        return number;
    }

    /// <summary>Frees the buffer returned by <see cref="Next"/> for reuse.</summary>
    public void Release() => _free.Release();

    /// <inheritdoc/>
    public void Dispose()
    {
        NativeMemoryMap.Free(_memory, Slots * ReadPlan.ChunkSize);
        _free.Dispose();
        foreach (SemaphoreSlim ready in _ready)
            ready.Dispose();
    }
}
