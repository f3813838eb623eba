using Bgsnap.NodeAgent.Capture;
using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Restore.Instant;

/// <summary>
/// What happens to memory from its emptying until all of it is there: the same whether the guest is just being started, or has been waiting
/// since one of us died.
/// </summary>
internal sealed class InstantFollowUp : IDisposable
{
    private readonly LazyMemory _memory;
    private readonly SnapshotStream _snapshot;
    private readonly RestoreProgress _progress;
    private readonly StartRecorder _recorder = new();
    private readonly LazyServer _server;
    private readonly bool _record;

    internal InstantFollowUp(LazyMemory memory, SnapshotStream snapshot, RestoreProgress progress, RestoreOptions options)
    {
        (_memory, _snapshot, _progress) = (memory, snapshot, progress);
        IReadOnlyList<long> recorded = options.RecordedStart ? RecordedStart.Read(snapshot.Directory.Path, snapshot.Log, memory.Ram) : [];
        // A guest that stays paused touches nothing: its first start is still to come.
        _record = options.RecordedStart && recorded.Count == 0 && !snapshot.Manifest.Capture.Paused;
        progress.RecordedUnits = recorded.Count;
        _server = new LazyServer(
            memory.Uffd,
            memory.Process,
            memory.Ram,
            snapshot.Log,
            progress,
            options.BytesPerSecond,
            recorded,
            _recorder,
            snapshot.Reopen
        );
    }

    /// <summary>Begins to serve faults; a recorded start is brought in at once.</summary>
    internal void Serve()
    {
        // Of what is not to be brought in, all is there.
        _progress.Add((long)_snapshot.Manifest.Ram.TotalBytes - _memory.Ram.PendingBytes);
        _server.Start();
        if (_progress.RecordedUnits > 0)
            _server.StartFetching();
    }

    /// <summary>Throws when what QEMU needs to run its guest cannot come.</summary>
    internal void ThrowIfStuck()
    {
        _server.ThrowIfFailed();
        if (_server.Stuck is { } problem)
            throw new RestoreFailedException("SnapshotUnreadable", $"{problem}. QEMU waits for it and has to be killed");
    }

    /// <summary>The guest runs: everything else is brought in from now on.</summary>
    internal void GuestRuns()
    {
        _recorder.GuestRuns();
        _server.StartFetching();
    }

    /// <summary>Waits until all is there, and leaves QEMU without anything of ours.</summary>
    internal void UntilResident(CancellationToken cancel)
    {
        _progress.Phase = "Running";
        try
        {
            _server.WaitUntilResident(cancel);
            _progress.Left = _memory.Release();
            TestHooks.After("resident");
        }
        finally
        {
            LatencyHistogram latency = _server.Latency;
            _progress.FaultTimes = new FaultTimes(
                latency.Count,
                latency.Percentile(0.5) / 1000,
                latency.Percentile(0.99) / 1000,
                latency.Maximum / 1000
            );
        }
        _progress.Resident();
        if (_record)
            _ = RecordedStart.TryWrite(_snapshot.Directory.Path, _snapshot.Log, _memory.Ram, _recorder.Order);
    }

    /// <summary>Gives the guest huge pages, where it had been given small ones by us.</summary>
    internal void MakeHugePages(CancellationToken cancel)
    {
        if (!HugePages.AreGiven())
            return;
        _progress.Phase = "HugePages";
        _progress.HugeBytes = Collapse.Run(_memory, cancel);
    }

    /// <inheritdoc/>
    public void Dispose() => _server.Dispose();
}
