using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Restore.Instant;

/// <summary>
/// Serves a QEMU's memory from the moment it is emptied until all of it is loaded. This is the same for a guest that is just starting and
/// for one that has been waiting since an earlier agent process died.
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
        // A guest that stays paused touches nothing, so its first start is still to come.
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

    /// <summary>Starts to serve faults, and loads a recorded start at once.</summary>
    internal void Serve()
    {
        // Everything that need not be loaded counts as done.
        _progress.Add((long)_snapshot.Manifest.Ram.TotalBytes - _memory.Ram.PendingBytes);
        _server.Start();
        if (_progress.RecordedUnits > 0)
            _server.StartFetching();
    }

    /// <summary>Throws if memory that QEMU needs to run its guest cannot be loaded.</summary>
    internal void ThrowIfStuck()
    {
        _server.ThrowIfFailed();
        if (_server.Stuck is { } problem)
            throw new RestoreFailedException(Reasons.SnapshotUnreadable, $"{problem}. QEMU waits for it: kill QEMU, and restore again");
    }

    /// <summary>The guest runs: from now on everything else is loaded too.</summary>
    internal void GuestRuns()
    {
        _recorder.GuestRuns();
        _server.StartFetching();
    }

    /// <summary>Waits until all memory is loaded, and removes everything of ours from QEMU.</summary>
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

    /// <summary>Gives the guest huge pages where the restore gave it small ones.</summary>
    internal void MakeHugePages(CancellationToken cancel)
    {
        if (!HugePages.AreGiven())
            return;
        _progress.Phase = "HugePages";
        TestHooks.After("huge-pages");
        _progress.HugeBytes = Collapse.Run(_memory, cancel);
    }

    /// <inheritdoc/>
    public void Dispose() => _server.Dispose();
}
