using System.Diagnostics;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Vocabulary;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>Reports a task's progress once a second; each report has the latest values.</summary>
internal sealed class TaskProgress : IAsyncDisposable
{
    private static readonly TimeSpan Every = TimeSpan.FromSeconds(1);
    private readonly SnapshotTaskStatus _status;
    private readonly Func<SnapshotTaskStatus, Task> _report;
    private readonly CancellationTokenSource _ended = new();
    private readonly Task _telling;
    private State? _latest;

    private readonly SemaphoreSlim _atOnce = new(0);
    private IReadOnlyList<DiskStatus>? _held;
    private Run? _runs;

    private sealed record Run(CaptureResult Measured, string? Problem);

    private sealed record State(double Percent, long Bytes, DateTime? PointInTime);

    /// <param name="status">The task's status while it runs; changed and passed to <paramref name="report"/>.</param>
    /// <param name="report">Writes the status.</param>
    internal TaskProgress(SnapshotTaskStatus status, Func<SnapshotTaskStatus, Task> report)
    {
        (_status, _report) = (status, report);
        _telling = Tell();
    }

    /// <summary>Sets the progress; cheap, callable from any thread.</summary>
    internal void Set(double percent, long bytes, DateTime? pointInTime = null) =>
        Volatile.Write(ref _latest, new State(percent, bytes, pointInTime));

    /// <summary>The guest is held stopped until the operator releases it; reported at once.</summary>
    /// <param name="disks">The disks that the operator has to snapshot; null: the guest is no longer held.</param>
    internal void Hold(IReadOnlyList<DiskStatus>? disks)
    {
        // Every line of progress carries the list; only the beginning and the end of the hold are reported at once.
        bool wasHeld = Interlocked.Exchange(ref _held, disks) is not null;
        if (wasHeld != disks is not null)
            _atOnce.Release();
    }

    /// <summary>
    /// The guest of a restore runs while its memory is loaded. That it runs is reported at once, and so is a problem that blocks loading.
    /// </summary>
    /// <param name="measured">The results so far.</param>
    /// <param name="problem">Why no memory is being loaded; null: it is.</param>
    internal void GuestRuns(CaptureResult measured, string? problem)
    {
        Run? before = Interlocked.Exchange(ref _runs, new Run(measured, problem));
        if (before is null || before.Problem is null != problem is null)
            _atOnce.Release();
    }

    private async Task Tell()
    {
        long at = Stopwatch.GetTimestamp(),
            bytes = 0;
        while (true)
        {
            _ = await _atOnce.WaitAsync(Every, _ended.Token).ConfigureAwait(false);
            if (Volatile.Read(ref _latest) is not { } now)
                continue;
            IReadOnlyList<DiskStatus>? held = Volatile.Read(ref _held);
            // A field that a merge patch omits keeps its value, so the end of a hold must be written explicitly.
            if (held is not null)
                (_status.Holding, _status.Result) = (true, new CaptureResult { Disks = [.. held] });
            else if (_status.Holding == true)
                (_status.Holding, _status.Result) = (false, null);
            if (Volatile.Read(ref _runs) is { } runs)
            {
                (_status.GuestRuns, _status.Result) = (true, runs.Measured);
                // For the same reason an empty string clears the problem.
                if (runs.Problem is { } problem)
                    (_status.Reason, _status.Message) = (Reasons.SnapshotUnreadable, problem);
                else if (_status.Reason is not null)
                    (_status.Reason, _status.Message) = ("", "");
            }
            _status.Percent = (int)now.Percent;
            _status.Bytes = now.Bytes;
            _status.BytesPerSecond = (long)((now.Bytes - bytes) / Stopwatch.GetElapsedTime(at).TotalSeconds);
            (at, bytes) = (Stopwatch.GetTimestamp(), now.Bytes);
            _status.PointInTime ??= now.PointInTime;
            await _report(_status).ConfigureAwait(false);
        }
    }

    /// <summary>Ends the reports; nothing is written afterwards.</summary>
    public async ValueTask DisposeAsync()
    {
        await _ended.CancelAsync().ConfigureAwait(false);
        await _telling.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _ended.Dispose();
        _atOnce.Dispose();
    }
}
