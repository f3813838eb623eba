using Bgsnap.Linux;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// The bounded memory between copying and the file: buffers of 2 MiB, each holding up to 32 granules, all reserved before the capture
/// begins.
/// </summary>
/// <remarks>
/// The last few free buffers are kept for the fault path: when the file is slow, the sweep waits first and a waiting guest last.
/// Part of the memory is populated before the capture begins. A separate thread populates the rest when the file falls behind
/// (<see cref="Grow"/>), so that a fast file never pays for memory it does not need, and no copy waits for the kernel to find a page.
/// </remarks>
internal sealed unsafe class Stage : IDisposable
{
    internal const int BufferSize = GuestRam.ClusterSize;
    internal const int MinimumBuffers = 16;
    private const int MaximumReserve = 16;
    private const int LowWater = 8;

    private readonly byte* _memory;
    private readonly int[] _free;
    private readonly Buffer[] _buffers;
    private readonly FutexLock _lock = new();
    private readonly FutexGate _freed = new();
    private int _freeCount;
    private int _ready;

    /// <param name="bytes">The largest size it may grow to.</param>
    /// <param name="readyBytes">How much is populated at once.</param>
    /// <param name="granulesPerRun">How many granules a run built in a buffer may hold; compressed granules take less room.</param>
    internal Stage(long bytes, long readyBytes = long.MaxValue, int granulesPerRun = GuestRam.GranulesPerCluster)
    {
        int count = (int)Math.Max(MinimumBuffers, bytes / BufferSize);
        Bytes = (long)count * BufferSize;
        Reserve = Math.Min(MaximumReserve, count / 4);
        int ready = (int)Math.Clamp(readyBytes / BufferSize, MinimumBuffers, count);
        _memory = NativeMemoryMap.Reserve((nuint)Bytes);
        _free = new int[count];
        _buffers = new Buffer[count];
        for (int i = 0; i < count; i++)
        {
            _buffers[i] = new Buffer(_memory + (long)i * BufferSize, granulesPerRun);
        }
        while (_ready < ready)
            AddBuffer();
    }

    /// <summary>
    /// Populates more memory whenever fewer buffers are free than the sweep needs, until all of it is populated. Runs in its own thread.
    /// </summary>
    internal void Grow(CapturePipeline pipeline)
    {
        while (_ready < _buffers.Length && !pipeline.IsCancelled && !pipeline.Copied.IsClosed)
        {
            if (Volatile.Read(ref _freeCount) > Reserve + LowWater)
                Nap.Milliseconds(2);
            else
                AddBuffer();
        }
    }

    private void AddBuffer()
    {
        NativeMemoryMap.Populate(_memory + (long)_ready * BufferSize, BufferSize);
        Return(_ready++);
    }

    /// <summary>A buffer and what it holds: its granule i begins at i × 64 KiB.</summary>
    internal sealed class Buffer(byte* memory, int granulesPerRun)
    {
        internal readonly byte* Memory = memory;
        internal readonly long[] Granules = new long[GuestRam.GranulesPerCluster];
        internal readonly int[] Lengths = new int[GuestRam.GranulesPerCluster];
        internal int Count;

        /// <summary>The granules of the run built in this buffer, once it is encoded.</summary>
        internal readonly long[] Run = new long[granulesPerRun];
        internal int RunCount;

        /// <summary>Bytes to write, once encoded.</summary>
        internal int EncodedLength;
        internal long FileOffset;

        internal byte* Slot(int i) => Memory + (long)i * GuestRam.GranuleSize;

        internal byte* Add(long granule, int length)
        {
            Granules[Count] = granule;
            Lengths[Count] = length;
            return Slot(Count++);
        }
    }

    internal long Bytes { get; }

    /// <summary>How many buffers only the fault path may take.</summary>
    internal int Reserve { get; }

    internal int Count => _buffers.Length;

    internal Buffer this[int index] => _buffers[index];

    /// <summary>Takes a free buffer.</summary>
    /// <param name="forFault">Whether it may take the reserved buffers.</param>
    /// <returns>Its number, or -1.</returns>
    internal int TryTake(bool forFault)
    {
        using (_lock.Enter())
        {
            if (_freeCount <= (forFault ? 0 : Reserve))
                return -1;
            int taken = _free[--_freeCount];
            _buffers[taken].Count = 0;
            return taken;
        }
    }

    internal void Return(int buffer)
    {
        using (_lock.Enter())
            _free[_freeCount++] = buffer;
        _freed.Open();
    }

    /// <summary>Waits until a buffer may have been freed, or until the timeout.</summary>
    internal void WaitFreed(int milliseconds) => _freed.Wait(milliseconds);

    /// <inheritdoc/>
    public void Dispose() => NativeMemoryMap.Free(_memory, (nuint)Bytes);
}
