using System.Diagnostics;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Capture;

/// <summary>The thread that the guest depends on: reads page faults and serves each as fast as possible.</summary>
/// <remarks>
/// Before the point in time a fault only unprotects the page and records it (pre-protection); afterwards the page is copied first.
/// When the stage has no free buffers, the fault path still has its reserved ones. If it gets no buffer within <see cref="StallLimit"/>,
/// the agent gives up the capture and frees the guest. The thread waits only for such a buffer: never for the sweep or the bandwidth limit.
/// </remarks>
internal sealed unsafe class FaultServer
{
    /// <summary>The longest time a guest write may wait for the file before the agent gives up the capture.</summary>
    internal static readonly TimeSpan StallLimit = TimeSpan.FromSeconds(2);

    // Earlier than the watch, which would kill the process: this way the reason is known.
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

    /// <summary>Service times, from reading a fault to releasing its page, in nanoseconds.</summary>
    internal LatencyHistogram Latency { get; } = new();

    /// <summary>
    /// Runs <paramref name="body"/> while no fault is being read or served, and treats every later fault as one after the point in time.
    /// The body must be short: QEMU itself may be waiting for a fault meanwhile.
    /// </summary>
    /// <param name="body">Protects memory. Between attempts it calls its argument, which reads events in place of the fault thread.</param>
    internal void OpenWindow(Action<Action> body)
    {
        using (_gate.Enter())
        {
            body(_readAhead);
            _windowOpen = true;
        }
    }

    /// <summary>Ends the thread after its current batch.</summary>
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
        // Read under the gate, so that a discard that was read before the window opens is also recorded before it opens.
        using (_gate.Enter())
        {
            int count = _memory.ReadEvents(messages, Batch);
            long read = Stopwatch.GetTimestamp();
            // QEMU continues a discard as soon as we have read the event: judge it before serving faults takes time.
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
            // Serving may append to the events that were read ahead.
            for (int i = 0; i < _laterCount; i++)
                Serve(_later[i]);
            _laterCount = 0;
        }
    }

    /// <summary>
    /// Called while the kernel refuses to unprotect because an event is pending: reads that event now. Faults are served after the current
    /// batch.
    /// </summary>
    private void ReadAhead()
    {
        _alive.Touch();
        fixed (UffdMessage* later = _later)
        {
            // Keeps faults and handles everything else at once. There can be as many waiting faults as QEMU has threads.
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

    /// <summary>Handles a change of the address space.</summary>
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
                    Reasons.RamUnmapped,
                    "QEMU unmapped guest RAM during the capture (memory hot-unplug?); try again"
                );
        }
    }

    private void Serve(in UffdMessage m)
    {
        GuestRam.Block block = _ram.Find(m.PagefaultAddress)
            ?? throw new CaptureFailedException(Reasons.ForeignFault, $"a fault at {m.PagefaultAddress:x} lies outside guest RAM");
        long granule = GuestRam.GranuleOf(block, m.PagefaultAddress);
        if (_windowOpen)
            CopyFor(block, granule);
        else
            Forgive(block, granule);
    }

    /// <summary>Before the point in time: lets the write continue and records the granule, which has to be protected again.</summary>
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
            // Either another thread is copying the granule and will wake the writer, or the granule was released before this message was
            // read: then only we can wake the writer.
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
                    Reasons.TargetTooSlow,
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
