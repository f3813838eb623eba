using System.Diagnostics;
using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// The thread the guest depends on: reads faults and serves each as fast as can be.
/// </summary>
/// <remarks>
/// Before the point in time a fault only unprotects and notes the place (pre-protection); after it, the place is copied first.
/// While nothing else is to be had it still has buffers of its own; past <see cref="StallLimit"/> without one, the
/// capture is given up and the guest set free. It waits for no other thread but for such a buffer: not for the sweep, and not for the
/// bandwidth limit.
/// </remarks>
internal sealed unsafe class FaultServer
{
    /// <summary>The longest a guest write may wait for the file before the capture is given up.</summary>
    internal static readonly TimeSpan StallLimit = TimeSpan.FromSeconds(2);

    // Before the watch would end the process: this way it is known why.
    private static readonly TimeSpan SoonerThanWatch = TimeSpan.FromMilliseconds(200);

    private const int Batch = 64;
    private const int PollMilliseconds = 50;
    private const int LaterCapacity = 1024;

    private readonly CapturePipeline _pipeline;
    private readonly GuestRam _ram;
    private readonly IProtectedMemory _memory;
    private readonly Sweep _sweep;
    private readonly Release _release;
    private readonly CaptureProgress _progress;
    private readonly ProtectionNotes _notes;
    private readonly Discards _discards;
    private readonly FutexLock _gate = new();
    private readonly GuestWatch.Heartbeat _alive;
    private readonly TimeSpan _stallLimit;
    private readonly UffdMessage[] _later = new UffdMessage[LaterCapacity];
    private readonly Action _readAhead;
    private volatile bool _windowOpen;
    private volatile bool _stop;
    private int _laterCount;
    private int _buffer = -1;

    internal FaultServer(
        CapturePipeline pipeline,
        GuestRam ram,
        IProtectedMemory memory,
        Sweep sweep,
        Release release,
        ProtectionNotes notes,
        Discards discards,
        CaptureProgress progress,
        GuestWatch.Heartbeat? alive = null,
        TimeSpan maxDowntime = default
    )
    {
        (_pipeline, _ram, _memory, _sweep, _release, _notes, _discards, _progress) = (
            pipeline,
            ram,
            memory,
            sweep,
            release,
            notes,
            discards,
            progress
        );
        _alive = alive ?? GuestWatch.Nothing().Add();
        TimeSpan limit = GuestWatch.LimitFor(maxDowntime);
        _stallLimit =
            maxDowntime > TimeSpan.Zero && limit < StallLimit + SoonerThanWatch ? limit - SoonerThanWatch : StallLimit - SoonerThanWatch;
        _readAhead = ReadAhead;
    }

    /// <summary>Service times: from reading a fault to its release, in nanoseconds.</summary>
    internal LatencyHistogram Latency { get; } = new();

    /// <summary>
    /// Runs <paramref name="body"/> while no fault is being read or served, then serves every fault as one after the point in time. The
    /// body has to be short: QEMU itself may wait for a fault meanwhile.
    /// </summary>
    /// <param name="body">Protects memory. Between its attempts it calls what it is given, which reads events in the place of the
    /// thread.</param>
    internal void OpenWindow(Action<Action> body)
    {
        using (_gate.Enter())
        {
            body(_readAhead);
            _windowOpen = true;
        }
    }

    /// <summary>Ends the thread after what it has in hand.</summary>
    internal void Stop() => _stop = true;

    internal void Run()
    {
        while (!_stop && !_pipeline.IsCancelled)
        {
            _alive.Touch();
            if (_windowOpen && _ram.PendingGranules == 0)
                FlushBuffer();
            if (_memory.AwaitEvents(PollMilliseconds) || Volatile.Read(ref _laterCount) > 0)
                ServeBatch();
        }
        _alive.Rest();
        FlushBuffer();
    }

    private void ServeBatch()
    {
        UffdMessage* messages = stackalloc UffdMessage[Batch];
        // Read under the gate: a discard that was read before the window opens is then also noted before it opens.
        using (_gate.Enter())
        {
            int count = _memory.ReadEvents(messages, Batch);
            long read = Stopwatch.GetTimestamp();
            // QEMU continues a discard as soon as we have read it: we judge it before any fault takes time.
            for (int i = 0; i < count; i++)
                Look(messages[i]);
            for (int i = 0; i < count; i++)
            {
                if (messages[i].Event != UffdConstants.EventPagefault)
                    continue;
                _alive.Touch();
                Serve(messages[i]);
                if (_windowOpen)
                {
                    Latency.Add(Stopwatch.GetElapsedTime(read).Ticks * 100);
                    _progress.AddFault();
                }
            }
            // Serving may add to what was read ahead.
            for (int i = 0; i < _laterCount; i++)
                Serve(_later[i]);
            _laterCount = 0;
        }
    }

    /// <summary>
    /// While the kernel refuses to unprotect because an event waits for us: reads it now; faults are served after what is in hand.
    /// </summary>
    private void ReadAhead()
    {
        _alive.Touch();
        fixed (UffdMessage* later = _later)
        {
            // A fault is kept, anything else is dealt with at once. As many faults can wait as QEMU has threads.
            int count = _memory.ReadEvents(later + _laterCount, LaterCapacity - _laterCount);
            for (int i = _laterCount, end = _laterCount + count; i < end; i++)
            {
                if (later[i].Event == UffdConstants.EventPagefault)
                    later[_laterCount++] = later[i];
                else
                    Look(later[i]);
            }
        }
    }

    /// <summary>Takes note of a change of the address space.</summary>
    private void Look(in UffdMessage m)
    {
        switch (m.Event)
        {
            case UffdConstants.EventRemove when _windowOpen:
                _discards.InWindow(m.RemoveStart, m.RemoveEnd);
                break;
            case UffdConstants.EventRemove:
                _discards.Before(m.RemoveStart, m.RemoveEnd);
                break;
            case UffdConstants.EventUnmap:
                throw new CaptureFailedException(
                    "RamUnmapped",
                    "QEMU unmapped guest RAM during the capture (memory hot-unplug?); try again"
                );
        }
    }

    private void Serve(in UffdMessage m)
    {
        GuestRam.Block block = _ram.Find(m.PagefaultAddress)
            ?? throw new CaptureFailedException("ForeignFault", $"a fault at {m.PagefaultAddress:x} lies outside guest RAM");
        long granule = GuestRam.GranuleOf(block, m.PagefaultAddress);
        if (_windowOpen)
            CopyFor(block, granule);
        else
            Forgive(block, granule);
    }

    /// <summary>Before the point in time: the write may go on, the place is to be protected again.</summary>
    private void Forgive(GuestRam.Block block, long granule)
    {
        _release.Unprotect(block.GranuleStart(granule), (ulong)block.GranuleLength(granule), _readAhead);
        _notes.Add(granule);
    }

    private void CopyFor(GuestRam.Block block, long granule)
    {
        long cluster = granule / GuestRam.GranulesPerCluster;
        bool huge = _ram.Kind(cluster) == ClusterKind.Huge;
        long first = huge ? cluster * GuestRam.GranulesPerCluster : granule;
        if (!_ram.TryClaim(first))
        {
            // Someone is copying it and will wake the writer; or it was released before this message was read, and then
            // nobody else would.
            if (_ram.State(first) == GuestRam.Done)
                _memory.Wake(block.GranuleStart(granule), (ulong)block.GranuleLength(granule));
            return;
        }
        int count = huge ? GuestRam.GranulesIn(block, cluster) : 1;
        Stage.Buffer buffer = RoomFor(count);
        _release.CopyAndUnprotect(block, first, count, buffer, _readAhead);
        _sweep.Follow(cluster);
        if (buffer.Count == GuestRam.GranulesPerCluster)
            FlushBuffer();
    }

    private Stage.Buffer RoomFor(int count)
    {
        if (_buffer >= 0 && _pipeline.Stage[_buffer].Count + count > GuestRam.GranulesPerCluster)
            FlushBuffer();
        long began = Stopwatch.GetTimestamp();
        while (_buffer < 0)
        {
            _buffer = _pipeline.Stage.TryTake(forFault: true);
            if (_buffer >= 0)
                break;
            if (_pipeline.IsCancelled)
                throw new OperationCanceledException();
            if (Stopwatch.GetElapsedTime(began) > _stallLimit)
                throw new CaptureFailedException(
                    "TargetTooSlow",
                    $"the target volume took no data for {_stallLimit.TotalSeconds:0.#} s while the guest waited. Use a faster "
                        + "volume, or more --stage-memory"
                );
            _alive.Touch();
            _pipeline.Stage.WaitFreed(5);
        }
        return _pipeline.Stage[_buffer];
    }

    private void FlushBuffer()
    {
        if (_buffer < 0)
            return;
        if (_pipeline.Stage[_buffer].Count > 0)
            _pipeline.Copied.Add(_buffer);
        else
            _pipeline.Stage.Return(_buffer);
        _buffer = -1;
    }
}
