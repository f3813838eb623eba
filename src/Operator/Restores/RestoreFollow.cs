using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;

namespace Bgsnap.Operator.Restores;

/// <summary>Follows an agent's task of any kind until it ends, and cancels it at the restore's deadline.</summary>
internal sealed class RestoreFollow(RestoreStore store, RestoreNotes notes, OperatorOptions options, TimeProvider clock)
{
    private static readonly TimeSpan DefaultDeadline = TimeSpan.FromHours(1);

    /// <summary>How long the restore may take.</summary>
    public static TimeSpan Deadline(VMBackgroundRestore restore) => Durations.Parse(restore.Spec.Deadline, DefaultDeadline);

    /// <summary>How much of that is left.</summary>
    public TimeSpan Left(VMBackgroundRestore restore) =>
        (restore.Metadata.CreationTimestamp ?? clock.GetUtcNow().UtcDateTime) + Deadline(restore) - clock.GetUtcNow();

    /// <summary>Evaluates the task's status.</summary>
    /// <param name="restore">The restore.</param>
    /// <param name="status">Receives the progress.</param>
    /// <param name="task">The task.</param>
    /// <param name="phase">The restore's phase while the task runs.</param>
    /// <param name="ordered">The condition's reason until an agent has taken the task.</param>
    /// <param name="what">What the task restores, for messages: disks, memory.</param>
    /// <param name="stop">The program ends.</param>
    /// <returns>The report of a task that succeeded.</returns>
    /// <exception cref="NotReadyException">The task has not ended.</exception>
    /// <exception cref="TerminalException">The task has failed.</exception>
    public async Task<SnapshotTaskStatus> Succeeded(
        VMBackgroundRestore restore,
        RestoreStatus status,
        SnapshotTask task,
        string phase,
        string ordered,
        string what,
        CancellationToken stop
    )
    {
        SnapshotTaskStatus report = task.Status ?? new SnapshotTaskStatus();
        TimeSpan left = Left(restore);
        string node = task.Spec.NodeName;
        if (report.Phase == TaskPhase.Succeeded)
            return report;
        if (report.Phase == TaskPhase.Failed)
        {
            if (left <= TimeSpan.Zero && report.Reason == Reasons.Cancelled)
                throw new TerminalException(
                    Reasons.DeadlineExceeded,
                    $"the guest did not run within {Deadline(restore)} of the restore's creation; the restore of its {what} was cancelled"
                );
            string whose = status.PodName is { Length: > 0 } pod ? $"pod {pod}: " : "";
            throw new TerminalException(report.Reason ?? Reasons.Failed, whose + (report.Message ?? "the agent gave no reason"));
        }
        if (left <= TimeSpan.Zero)
        {
            if (task.Spec.Cancel != true)
                await store.Cancel(task, stop).ConfigureAwait(false);
            else if (report.Phase is null || left <= -options.CancelPatience)
                throw new TerminalException(
                    Reasons.DeadlineExceeded,
                    $"the guest did not run within {Deadline(restore)} of the restore's creation, and the agent on node "
                        + $"{node} did not answer the cancellation"
                );
            throw new NotReadyException(Reasons.GivingUp, $"the deadline has passed; cancelling the task of the agent on node {node}")
            {
                Phase = phase,
                Again = options.CancelPatience,
            };
        }
        if (report.Phase is null)
        {
            TimeSpan age = clock.GetUtcNow() - (task.Metadata.CreationTimestamp ?? clock.GetUtcNow().UtcDateTime);
            throw age < options.AgentSilence
                ? new NotReadyException(ordered, AgentMessages.WaitingFor(node)) { Phase = phase, Again = options.AgentSilence }
                : new NotReadyException(Reasons.AgentSilent, AgentMessages.Silent(node)) { Phase = phase, Again = options.AgentSilence };
        }
        TimeSpan wait = notes.UntilProgress(restore);
        if (wait <= TimeSpan.Zero || status.Phase != phase || status.Progress is null)
        {
            int percent = report.Percent ?? 0;
            status.Progress = new RestoreProgress
            {
                Percent = percent,
                Text = $"{what} {percent}%",
                Bytes = report.Bytes,
                BytesPerSecond = report.BytesPerSecond,
            };
            wait = left;
        }
        throw new NotReadyException(Reasons.Restoring, $"the agent on node {node} is restoring {what}") { Phase = phase, Again = wait };
    }
}
