using System.Diagnostics;
using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// The thread the guest depends on: reads faults and serves each as fast as can be.
/// </summary>
/// <remarks>
/// Before the point in time a fault only unprotects and notes the place (pre-protection); after it, the place is copied first.
/// While nothing else is to be had it still has buffers of its own; past <see cref="StallLimit"/> without one, the
/// capture is given up and the guest set free.
/// </remarks>
internal sealed unsafe class FaultServer
{
    /// <summary>The longest a guest write may wait for the file before the capture is given up.</summary>
    internal static readonly TimeSpan StallLimit = TimeSpan.FromSeconds(2);

    private const int Batch = 64;
    private const int PollMilliseconds = 50;
    private const int LaterCapacity = 1024;

    private readonly CapturePipeline _pipeline;
    private readonly GuestRam _ram;
    private readonly Userfaultfd _uffd;
    private readonly Sweep _sweep;
    private readonly Release _release;
    private readonly CaptureProgress _progress;
    private readonly ProtectionNotes _notes;
    private readonly Lock _gate = new();
    private volatile bool _windowOpen;
    private volatile bool _stop;
    private readonly UffdMessage[] _later = new UffdMessage[LaterCapacity];
    private readonly Action _readAhead;
    private int _laterCount;
    private int _buffer = -1;

    internal FaultServer(CapturePipeline pipeline, GuestRam ram, Userfaultfd uffd, Sweep sweep, Release release, ProtectionNotes notes, CaptureProgress progress)
    {
        (_pipeline, _ram, _uffd, _sweep, _release, _notes, _progress) = (pipeline, ram, uffd, sweep, release, notes, progress);
        _readAhead = ReadAhead;
    }

    /// <summary>Service times: from reading a fault to its release, in nanoseconds.</summary>
    internal LatencyHistogram Latency { get; } = new();

    /// <summary>Runs <paramref name="body"/> while no fault is being served, then serves every fault as one after the point in time.</summary>
    internal void OpenWindow(Action body)
    {
        lock (_gate)
        {
            body();
            _windowOpen = true;
        }
    }

    /// <summary>Ends the thread after what it has in hand.</summary>
    internal void Stop() => _stop = true;

    internal void Run()
    {
        UffdMessage* messages = stackalloc UffdMessage[Batch];
        PollFd poll = new() { Fd = _uffd.FileDescriptor, Events = Libc.POLLIN };
        while (!_stop && !_pipeline.IsCancelled)
        {
            _progress.Beat();
            if (_windowOpen && _ram.PendingGranules == 0)
                FlushBuffer();
            if (Libc.Poll(&poll, 1, PollMilliseconds) <= 0)
                continue;
            if ((poll.Revents & (Libc.POLLERR | Libc.POLLHUP)) != 0)
                throw new CaptureFailedException("QemuGone", "QEMU ended during the capture");
            int count = _uffd.Read(messages, Batch);
            lock (_gate)
            {
                long read = Stopwatch.GetTimestamp();
                for (int i = 0; i < count; i++)
                {
                    Serve(messages[i]);
                    if (_windowOpen && messages[i].Event == UffdConstants.EventPagefault)
                    {
                        Latency.Add(Stopwatch.GetElapsedTime(read).Ticks * 100);
                        _progress.AddFault();
                    }
                }
                for (int i = 0; i < _laterCount; i++)
                    Serve(_later[i]);
                _laterCount = 0;
            }
        }
        FlushBuffer();
    }

    /// <summary>While the kernel refuses to unprotect because an event waits for us: read it now, serve it after what is in hand.</summary>
    private void ReadAhead()
    {
        if (_laterCount == LaterCapacity)
            throw new CaptureFailedException("MemoryDiscarded", "QEMU discards memory faster than a capture can follow (balloon or free page reporting); try again when the balloon is at rest");
        fixed (UffdMessage* later = _later)
            _laterCount += _uffd.Read(later + _laterCount, LaterCapacity - _laterCount);
    }

    private void Serve(in UffdMessage m)
    {
        switch (m.Event)
        {
            case UffdConstants.EventPagefault:
                GuestRam.Block block = _ram.Find(m.PagefaultAddress)
                    ?? throw new CaptureFailedException("ForeignFault", $"a fault at {m.PagefaultAddress:x} lies outside guest RAM");
                long granule = GuestRam.GranuleOf(block, m.PagefaultAddress);
                if (_windowOpen)
                    CopyFor(block, granule);
                else
                    Forgive(block, granule);
                break;
            case UffdConstants.EventRemove:
                CheckDiscard(m.RemoveStart, m.RemoveEnd);
                break;
            case UffdConstants.EventUnmap:
                throw new CaptureFailedException("RamUnmapped", "QEMU unmapped guest RAM during the capture (memory hot-unplug?); try again");
        }
    }

    /// <summary>Before the point in time: the write may go on, the place is to be protected again.</summary>
    private void Forgive(GuestRam.Block block, long granule)
    {
        ulong start = block.GranuleStart(granule);
        _uffd.Unprotect(start, (ulong)block.GranuleLength(granule), _readAhead);
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
                _uffd.Wake(block.GranuleStart(granule), (ulong)block.GranuleLength(granule));
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
            if (Stopwatch.GetElapsedTime(began) > StallLimit)
                throw new CaptureFailedException("TargetTooSlow", $"the target volume took no data for {StallLimit.TotalSeconds:0} s while the guest waited; the guest was set free. Use a faster volume, or more --stage-memory");
            _progress.Beat();
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

    /// <summary>The guest (through QEMU) throws memory away: what is not copied yet is lost, and the snapshot with it.</summary>
    private void CheckDiscard(ulong start, ulong end)
    {
        if (!_windowOpen)
        {
            // Before the point in time nothing is lost; but the kernel drops the protection of private memory together with it, after we
            // have read this. So it is protected again in the stop window, which a hole can be only where the kernel knows how.
            if (!_uffd.Features.HasFlag(UffdFeatures.WpUnpopulated))
                throw new CaptureFailedException("MemoryDiscarded", "QEMU discarded memory while it was being protected (balloon); try again when the balloon is at rest");
            for (ulong at = start; at < end; at = (at / GuestRam.GranuleSize + 1) * GuestRam.GranuleSize)
            {
                if (_ram.Find(at) is { } discarded)
                    _ram.MarkDiscarded(GuestRam.GranuleOf(discarded, at));
            }
            if (_ram.Find(end - 1) is { } last)
                _ram.MarkDiscarded(GuestRam.GranuleOf(last, end - 1));
            return;
        }
        for (ulong at = start; at < end; at += GuestRam.GranuleSize)
        {
            if (_ram.Find(at) is not { } block)
                continue;
            long granule = GuestRam.GranuleOf(block, at);
            long cluster = granule / GuestRam.GranulesPerCluster;
            long holder = _ram.Kind(cluster) == ClusterKind.Huge ? cluster * GuestRam.GranulesPerCluster : granule;
            if (_ram.Kind(cluster) != ClusterKind.Absent && _ram.State(holder) != GuestRam.Done)
                throw new CaptureFailedException("MemoryDiscarded", $"QEMU discarded memory of RAM block {block.Ram.Name} that was not copied yet (balloon or free page reporting); try again when the balloon is at rest, or without free-page-reporting");
        }
    }
}
