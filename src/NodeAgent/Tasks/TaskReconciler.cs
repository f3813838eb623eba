using System.Collections.Concurrent;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Vocabulary;
using Microsoft.Extensions.Logging;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>
/// Executes the tasks of this node. Reconciling a task only starts or cancels its work. The work runs in parallel and writes the task's
/// status, so one slow volume holds up no other task.
/// </summary>
internal sealed class TaskReconciler(
    Informer<SnapshotTask> tasks,
    TaskWork work,
    TaskReports reports,
    string node,
    string run,
    ILogger<TaskReconciler> log
) : IReconciler
{
    private readonly ConcurrentDictionary<ObjectKey, Job> _jobs = new();

    /// <summary>Number of running tasks.</summary>
    internal int Running => _jobs.Count;

    /// <inheritdoc/>
    public Task<TimeSpan?> Reconcile(ObjectKey key, CancellationToken stop)
    {
        SnapshotTask? task = tasks.Find(key);
        if (_jobs.TryGetValue(key, out Job? job))
        {
            if (task is null || task.Metadata.Uid != job.Uid || task.Metadata.DeletionTimestamp is not null || task.Spec.Cancel == true)
                job.Cancel();
            else if (task.Spec.Release == true)
                job.Release(task.Spec.VolumeSnapshots);
            return Task.FromResult<TimeSpan?>(null);
        }
        // The label selects the task for this node's informer; the spec decides.
        if (task is not null && task.Spec.NodeName == node && !TaskPhase.IsTerminal(task.Status?.Phase))
            Start(key, task, stop);
        return Task.FromResult<TimeSpan?>(null);
    }

    /// <summary>Cancels all tasks and waits until each has ended and reported its end.</summary>
    internal async Task Drain()
    {
        foreach (Job job in _jobs.Values)
            job.Cancel();
        await Task.WhenAll(_jobs.Values.Select(j => j.Ended)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    private void Start(ObjectKey key, SnapshotTask task, CancellationToken stop)
    {
        Job job = new(task.Metadata.Uid);
        if (!_jobs.TryAdd(key, job))
            return;
        job.Ended = Task.Run(
            async () =>
            {
                try
                {
                    await Do(task, job, stop).ConfigureAwait(false);
                }
                catch (Exception e)
                {
                    log.LogError(e, "task {Task}: the work failed", key);
                }
                finally
                {
                    _jobs.TryRemove(key, out _);
                }
            },
            CancellationToken.None
        );
    }

    private async Task Do(SnapshotTask task, Job job, CancellationToken stop)
    {
        bool foundRunning = task.Status?.Phase == TaskPhase.Running && task.Status.AgentRun != run;
        SnapshotTaskStatus status = new()
        {
            Phase = TaskPhase.Running,
            AgentRun = run,
            StartTime = Now(),
            Percent = 0,
        };
        if (!foundRunning && task.Spec.Cancel != true && !await reports.Insist(task, status, stop).ConfigureAwait(false))
            return;
        SnapshotTaskStatus end;
        try
        {
            end =
                task.Spec.Cancel == true && !foundRunning ? throw new TaskFailure(Reasons.Cancelled, "cancelled before it began")
                : foundRunning
                    ? await work.Recover(task, status, s => reports.Try(task, s, job.Token), job.Token, stop).ConfigureAwait(false)
                : await work.Do(task, status, s => reports.Try(task, s, job.Token), job.Released, job.Token, stop).ConfigureAwait(false);
        }
        catch (Exception e) when (e is OperationCanceledException or TaskFailure { Reason: Reasons.Cancelled })
        {
            bool leaving = stop.IsCancellationRequested;
            // The next run of the agent finds this task Running and repeats or continues it, with the same result. If a guest could not be
            // freed yet, the next run frees it first.
            if (
                leaving
                && (
                    foundRunning
                    || task.Spec.Action == TaskAction.RestoreDisks
                    || status.GuestRuns == true
                    || (e is OperationCanceledException && task.Spec.Action == TaskAction.Capture)
                )
            )
                return;
            end = leaving
                ? Failed(
                    Reasons.AgentStopped,
                    $"the agent on node {node} was stopped during the work; "
                        + $"{(e is TaskFailure ? e.Message : TaskMessages.After(task.Spec.Action))}"
                )
                : Failed(Reasons.Cancelled, e is TaskFailure ? e.Message : $"cancelled; {TaskMessages.After(task.Spec.Action)}");
        }
        catch (TaskFailure e)
        {
            end = Failed(e.Reason, e.Message);
        }
        (end.AgentRun, end.StartTime, end.CompletionTime) = (run, status.StartTime, Now());
        if (status.Holding is not null)
            end.Holding = false;
        log.LogInformation(
            "task {Namespace}/{Name}: {Phase} {Reason} {Message}",
            task.Metadata.NamespaceProperty,
            task.Metadata.Name,
            end.Phase,
            end.Reason,
            end.Message
        );
        AgentMetrics.Ended(task, end);
        // Reports the end for as long as that takes; if the agent is stopping, for another 10 s.
        using CancellationTokenSource last = new();
        using CancellationTokenRegistration later = stop.Register(() => last.CancelAfter(TimeSpan.FromSeconds(10)));
        await reports.Insist(task, end, last.Token).ConfigureAwait(false);
    }

    private static SnapshotTaskStatus Failed(string reason, string message) =>
        new()
        {
            Phase = TaskPhase.Failed,
            Reason = reason,
            Message = message,
        };

    private static DateTime Now() => DateTimeOffset.FromUnixTimeSeconds(DateTimeOffset.UtcNow.ToUnixTimeSeconds()).UtcDateTime;

    // Never disposed: a token source without timer or registration holds no resources, and may still be cancelled later.
    [System.Diagnostics.CodeAnalysis.SuppressMessage(
        "Design",
        "CA1001:Types that own disposable fields should be disposable",
        Justification = "see above"
    )]
    private sealed class Job(string uid)
    {
        private readonly CancellationTokenSource _cancel = new();
        private readonly TaskCompletionSource<string> _released = new(TaskCreationOptions.RunContinuationsAsynchronously);
        internal string Uid => uid;
        internal CancellationToken Token => _cancel.Token;
        internal Task Ended { get; set; } = Task.CompletedTask;
        internal Task<string> Released => _released.Task;

        internal void Cancel() => _cancel.Cancel();

        internal void Release(IDictionary<string, string>? names) =>
            _released.TrySetResult(
                "release " + string.Join(',', (names ?? new Dictionary<string, string>()).Select(n => $"{n.Key}={n.Value}"))
            );
    }
}
