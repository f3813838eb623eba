using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;

namespace Bgsnap.Operator.Restores;

/// <summary>
/// A guest that runs while its RAM still arrives (mode Instant). From here on we never give it up: not at the deadline, not when the
/// restore is deleted. If its RAM stops arriving, the guest waits and the status says why; we create the task again until all RAM has
/// arrived, or the guest's pod has ended.
/// </summary>
/// <remarks>
/// <code>
///   task Running, guestRuns ──▶ phase Running, Ready True, Resident False "RamArrives", progress
///   … with a reason         ──▶ Resident False for that reason, a warning: the guest waits
///   task Failed             ──▶ the same; we remove task and carrier; the next reconcile creates them again
///   task Succeeded          ──▶ phase Ready, Resident True: the volume is no longer needed
///   a KubeVirt VM migrated  ──▶ the same: a migration reads all RAM, so all of it has arrived
///   the pod has ended       ──▶ phase Failed; its disks are kept
/// </code>
/// </remarks>
internal sealed class RunningGuest(RestoreStore store, RestoreNotes notes, NodeQueue queue, TimeProvider clock)
{
    // An agent that gets the task back at once would fail in the same way.
    private static readonly TimeSpan OrderAgain = TimeSpan.FromSeconds(10);

    /// <summary>Whether the guest of this restore has run, according to our status or the agent's report.</summary>
    public static bool Has(RestoreStatus? status, SnapshotTask? memory) =>
        (status is not null && RestoreState.HasRun(status)) || memory?.Status?.GuestRuns == true;

    /// <summary>
    /// Whether this restore must continue although it is deleted: its guest runs, and would wait forever without the rest of its RAM.
    /// </summary>
    public async Task<bool> NeedsRam(VMBackgroundRestore restore, CancellationToken stop)
    {
        if (RestorePhase.IsTerminal(restore.Status?.Phase) || restore.Metadata.Finalizers?.Contains(Names.RestoreFinalizer) != true)
            return false;
        SnapshotTask? memory = await store.FindTask(restore, TaskAction.Restore, stop).ConfigureAwait(false);
        return Has(restore.Status, memory) && memory?.Status?.Phase != TaskPhase.Succeeded;
    }

    /// <summary>Evaluates the task of a running guest whose RAM has not all arrived.</summary>
    /// <returns>The time until the next reconcile.</returns>
    /// <exception cref="TerminalException">The guest has ended.</exception>
    public async Task<TimeSpan> Follow(
        ObjectKey key,
        VMBackgroundRestore restore,
        RestoreStatus status,
        SnapshotTask task,
        CancellationToken stop
    )
    {
        // Free the slot for other restores: this one's guest runs.
        queue.Leave(key);
        SnapshotTaskStatus report = task.Status ?? new SnapshotTaskStatus();
        bool ended = await HasEnded(restore, status, stop).ConfigureAwait(false);
        if ((ended || report.Phase == TaskPhase.Failed) && await store.FindMigrated(restore, stop).ConfigureAwait(false) is { } elsewhere)
        {
            (status.PodName, status.PodUID, status.NodeName) = (elsewhere.Metadata.Name, elsewhere.Metadata.Uid, elsewhere.Spec!.NodeName);
            // Drop the agent's reason and message: they are about the process that has ended.
            RestoreState.Ready(restore, status, new SnapshotTaskStatus { Result = report.Result, Bytes = report.Bytes }, clock.GetUtcNow());
            return OrderAgain;
        }
        if (ended)
            throw new TerminalException(
                Reasons.GuestEnded,
                $"pod {status.PodName} ended before all of its guest's RAM had arrived; its disks keep what the guest wrote. "
                    + "Create another restore to return to the snapshot's state"
            );
        if (report.Phase != TaskPhase.Failed)
        {
            if (report.GuestRuns == true)
                RestoreState.Running(restore, status, report, clock.GetUtcNow());
            return notes.UntilProgress(restore) is { } wait && wait > TimeSpan.Zero ? wait : OrderAgain;
        }
        RestoreState.Starved(
            restore,
            status,
            report.Reason ?? Reasons.Failed,
            $"{report.Message ?? "the agent gave no reason"}; the guest waits, and the restore is retried",
            clock.GetUtcNow()
        );
        TimeSpan early =
            (report.CompletionTime ?? task.Metadata.CreationTimestamp ?? DateTime.MinValue) + OrderAgain - clock.GetUtcNow().UtcDateTime;
        if (early > TimeSpan.Zero)
            return early;
        await notes.Save(restore, status, stop).ConfigureAwait(false);
        await store.RemoveHelpers(restore, stop).ConfigureAwait(false);
        return OrderAgain;
    }

    private async Task<bool> HasEnded(VMBackgroundRestore restore, RestoreStatus status, CancellationToken stop)
    {
        PodSummary? pod = await store.FindPod(restore, stop).ConfigureAwait(false);
        return pod is null || pod.Metadata.Uid != status.PodUID || pod.Status?.Phase is "Succeeded" or "Failed";
    }
}
