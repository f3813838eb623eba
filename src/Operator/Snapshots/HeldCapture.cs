using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.VolumeSnapshots;
using Bgsnap.Vocabulary;

namespace Bgsnap.Operator.Snapshots;

/// <summary>Drives a capture whose guest is stopped while the storage makes its VolumeSnapshots.</summary>
internal sealed class HeldCapture(SnapshotStore store, OperatorOptions options, TimeProvider clock)
{
    // How often we ask the storage while the guest is stopped.
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(200);

    /// <summary>
    /// Takes the next step while the guest is stopped. On any error the agent first resumes the guest; the error is reported after that.
    /// </summary>
    /// <returns>The time until the next reconcile.</returns>
    public async Task<TimeSpan> Hold(VMBackgroundSnapshot snapshot, SnapshotStatus status, SnapshotTask task, CancellationToken stop)
    {
        (string Reason, string Message) why;
        try
        {
            if (await store.Cuts.Advance(snapshot, task, stop).ConfigureAwait(false) is { } volumeSnapshots)
            {
                await store.Release(task, volumeSnapshots, stop).ConfigureAwait(false);
                return options.AgentSilence;
            }
            SnapshotState.Reconciling(
                snapshot,
                status,
                SnapshotPhase.Capturing,
                Reasons.GuestHeld,
                "the guest is stopped while the storage takes VolumeSnapshots of its disks",
                clock.GetUtcNow()
            );
            return Poll;
        }
        catch (TerminalException e)
        {
            why = (e.Reason, e.Message);
        }
        catch (ApiException e) when (e.IsInvalid || e.Code == 404)
        {
            why = (Reasons.VolumeSnapshotRefused, $"the API server rejected a VolumeSnapshot: {e.Message}");
        }
        await store.Cancel(task, stop).ConfigureAwait(false);
        SnapshotState.Reconciling(snapshot, status, SnapshotPhase.Capturing, why.Reason, why.Message, clock.GetUtcNow());
        return options.CancelPatience;
    }

    /// <summary>Returns when the storage can make a volume from every VolumeSnapshot.</summary>
    /// <exception cref="NotReadyException">The storage has not finished.</exception>
    /// <exception cref="TerminalException">A VolumeSnapshot is lost, or the deadline has passed.</exception>
    public async Task WaitForStorage(
        VMBackgroundSnapshot snapshot,
        SnapshotTask task,
        TimeSpan left,
        TimeSpan deadline,
        CancellationToken stop
    )
    {
        if (await store.Cuts.Unusable(snapshot, task, stop).ConfigureAwait(false) is not { } unusable)
            return;
        throw left <= TimeSpan.Zero
            ? new TerminalException(
                Reasons.DeadlineExceeded,
                $"the snapshot was not Ready within {deadline} of its creation: {unusable}. The captured memory stays on the "
                    + "claim until this snapshot is deleted"
            )
            : new NotReadyException(Reasons.WaitingForVolumeSnapshots, unusable) { Phase = SnapshotPhase.Capturing };
    }

    /// <summary>
    /// Explains a failed capture by what the storage reported: an agent that we cancelled because of the storage knows only that it was
    /// cancelled.
    /// </summary>
    /// <exception cref="TerminalException">The storage's part in the failure; if it has none, the method returns.</exception>
    public async Task ThrowStorageError(VMBackgroundSnapshot snapshot, SnapshotTaskStatus report, CancellationToken stop)
    {
        if (
            report.Reason == Reasons.Cancelled
            && Conditions.Get(snapshot.Status, ConditionTypes.Ready) is { } noted
            && VolumeCuts.CancelReasons.Contains(noted.Reason)
        )
            throw new TerminalException(noted.Reason, noted.Message);
        // The operator may have crashed between cancelling and recording why: the VolumeSnapshots still show the error.
        if (report.Reason == Reasons.Cancelled && await store.Cuts.FindFailed(snapshot, stop).ConfigureAwait(false) is { } failure)
            throw failure;
        if (
            report.Reason == Reasons.DowntimeExceeded
            && await store.Cuts.Uncut(snapshot, stop).ConfigureAwait(false) is { Length: > 0 } uncut
        )
            throw new TerminalException(
                report.Reason,
                $"{report.Message}; the storage had not taken {uncut}: raise spec.capture.maxDowntime, or use another "
                    + "spec.capture.diskMethod"
            );
    }
}
