using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using Bgsnap.Linux;

namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>Threads that read RAM ahead of the writing thread, in bounded memory and in order.</summary>
/// <remarks>
/// <code>
///   ticket:      0   1   2   3   4   5  …        slot = ticket mod slots
///   reader A    [0]     [2]         [5]
///   reader B        [1]     [3] [4]
///   writer       0 → 1 → 2 → …                   a slot is claimed again when its ticket was written
/// </code>
/// Tickets are handed out in order, and a ticket owns its slot from then on. So a reader always holds the ticket that the writer waits for:
/// readers can wait for the writer, but never for each other.
/// </remarks>
internal sealed unsafe class RamChunkPipeline : IDisposable
{
    /// <summary>Finished or claimed chunks in memory: 16 × 514 KiB.</summary>
    public const int Slots = 16;

    private readonly object _gate = new();
    private readonly IRamSource _ram;
    private readonly Func<int, long, bool>? _isZeroInTarget;
    private readonly IEnumerator<RamChunkPlan> _plan;
    private readonly Thread[] _threads;
    private readonly Slot[] _slots = new Slot[Slots];
    private readonly int _slotCapacity = RamChunkBuilder.Capacity(RamChunkPlan.MaxGranules);
    private byte* _memory;
    private long _claimed;
    private long _taken;
    private bool _planned;
    private bool _stopping;
    private ExceptionDispatchInfo? _failure;

    /// <summary>Starts the readers.</summary>
    public RamChunkPipeline(IRamSource ram, MigrationStreamWriterOptions options)
    {
        _ram = ram;
        _isZeroInTarget = options.IsZeroInTarget;
        _plan = RamChunkPlan.Enumerate(ram.Blocks, options.SendPagesOf).GetEnumerator();

        // SAFETY: freed in Dispose, after every thread that has a pointer into it was joined.
        _memory = (byte*)NativeMemory.Alloc((nuint)(Slots * _slotCapacity));
        _threads = new Thread[options.ReaderThreads];
        for (int i = 0; i < _threads.Length; i++)
        {
            _threads[i] = AgentThread.Start($"ram-reader-{i}", ReadChunks, Fail, stackBytes: 0);
        }
    }

    /// <summary>Waits for the next chunk of the stream.</summary>
    /// <param name="records">The page records; valid until <see cref="Release"/>.</param>
    /// <param name="ramBytes">Bytes of guest RAM that they cover.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>False after all RAM was taken.</returns>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    /// <exception cref="IOException">A reader could not read.</exception>
    public bool TryTake(out ReadOnlySpan<byte> records, out ulong ramBytes, CancellationToken cancellationToken)
    {
        lock (_gate)
        {
            int slot = (int)(_taken % Slots);
            while (!_slots[slot].Ready)
            {
                _failure?.Throw();
                cancellationToken.ThrowIfCancellationRequested();
                if (_planned && _taken == _claimed)
                {
                    records = default;
                    ramBytes = 0;
                    return false;
                }
                // A token cannot pulse this monitor without taking the lock in its callback; checking twice a second is enough.
                Monitor.Wait(_gate, 500);
            }
            records = new ReadOnlySpan<byte>(SlotMemory(slot), _slots[slot].Length);
            ramBytes = _slots[slot].RamBytes;
            return true;
        }
    }

    /// <summary>Returns the chunk taken last to the readers.</summary>
    public void Release()
    {
        lock (_gate)
        {
            _slots[_taken % Slots].Ready = false;
            _taken++;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Stops and joins the readers; waits for a read in progress.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _stopping = true;
            Monitor.PulseAll(_gate);
        }
        foreach (Thread thread in _threads)
            thread.Join();
        NativeMemory.Free(_memory);
        _memory = null;
        _plan.Dispose();
    }

    private void ReadChunks()
    {
        byte* staging = null;
        try
        {
            // SAFETY: used only by this thread and freed when it ends.
            staging = (byte*)NativeMemory.AlignedAlloc(MigrationFormat.GranuleSize, MigrationFormat.PageSize);
            using IGranuleReader reader = _ram.CreateReader();
            var builder = new RamChunkBuilder(_ram.Blocks, reader, staging, _isZeroInTarget);
            while (TryClaim(out long ticket, out RamChunkPlan chunk))
            {
                int slot = (int)(ticket % Slots);
                Publish(slot, builder.Build(chunk, SlotMemory(slot)), chunk.Bytes);
            }
        }
        finally
        {
            NativeMemory.AlignedFree(staging);
        }
    }

    /// <summary>Stores a reader's exception, to be rethrown on the writer's thread.</summary>
    private void Fail(Exception e)
    {
        lock (_gate)
        {
            _failure ??= ExceptionDispatchInfo.Capture(e);
            _stopping = true;
            Monitor.PulseAll(_gate);
        }
    }

    private bool TryClaim(out long ticket, out RamChunkPlan chunk)
    {
        lock (_gate)
        {
            while (!_stopping && !_planned && _claimed - _taken == Slots)
                Monitor.Wait(_gate);
            if (_stopping || _planned || !_plan.MoveNext())
            {
                _planned = true;
                Monitor.PulseAll(_gate);
                ticket = 0;
                chunk = default;
                return false;
            }
            ticket = _claimed++;
            chunk = _plan.Current;
            return true;
        }
    }

    private void Publish(int slot, int length, ulong ramBytes)
    {
        lock (_gate)
        {
            _slots[slot] = new Slot
            {
                Ready = true,
                Length = length,
                RamBytes = ramBytes,
            };
            Monitor.PulseAll(_gate);
        }
    }

    private byte* SlotMemory(int slot) => _memory + (long)slot * _slotCapacity;

    private struct Slot
    {
        public bool Ready;
        public int Length;
        public ulong RamBytes;
    }
}
