using System.Collections.Concurrent;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Events;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.VolumeSnapshots;
using Bgsnap.Vocabulary;
using k8s.Models;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Operator.Snapshots;

/// <summary>
/// Removes a deleted snapshot: cancels a capture under way, removes the files if deletionPolicy says so, then releases the object.
/// </summary>
internal sealed class SnapshotRemoval(
    SnapshotStore store,
    NodeQueue queue,
    EventRecorder events,
    OperatorOptions options,
    TimeProvider clock,
    ILogger<SnapshotRemoval> log
)
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(15);
    private static readonly TimeSpan RetryAfter = TimeSpan.FromMinutes(1);
    private readonly ConcurrentDictionary<ObjectKey, DateTimeOffset> _cancelled = new();

    /// <summary>Takes the next step of the removal.</summary>
    public async Task<TimeSpan?> Remove(ObjectKey key, VMBackgroundSnapshot snapshot, CancellationToken stop)
    {
        if (snapshot.Metadata.Finalizers?.Contains(Names.Finalizer) != true)
        {
            queue.Leave(key);
            return null;
        }

        // 1. A restore under way still reads the files.
        if (await store.FindRestoreOf(snapshot, stop).ConfigureAwait(false) is { } restore)
        {
            await Say(
                    snapshot,
                    Reasons.InUseByRestore,
                    $"VMBackgroundRestore {restore.Metadata.Name} reads the snapshot, which is removed once that restore has ended or is "
                        + "deleted",
                    isNews: true,
                    stop
                )
                .ConfigureAwait(false);
            return Soon;
        }

        // 2. Cancel a capture under way: the guest must be free before anything else happens.
        SnapshotTask? capture = await store.FindTask(snapshot, TaskAction.Capture, stop).ConfigureAwait(false);
        if (capture is not null && !TaskPhase.IsTerminal(capture.Status?.Phase))
        {
            if (capture.Spec.Cancel != true)
            {
                await store.Cancel(capture, stop).ConfigureAwait(false);
                _cancelled[key] = clock.GetUtcNow();
                await events
                    .Normal(snapshot, Reasons.CaptureCancelled, "the snapshot was deleted while it was being captured", stop)
                    .ConfigureAwait(false);
                return options.CancelPatience;
            }
            // Counted from the cancellation that this leader saw, not from the deletion: there may have been no leader in between.
            TimeSpan waited = clock.GetUtcNow() - _cancelled.GetOrAdd(key, clock.GetUtcNow());
            if (waited < options.CancelPatience)
                return options.CancelPatience - waited;
            await events
                .Warning(
                    snapshot,
                    Reasons.AgentSilent,
                    $"the agent on node {capture.Spec.NodeName} did not answer; the capture continues until it ends by itself",
                    stop
                )
                .ConfigureAwait(false);
        }
        queue.Leave(key);
        _cancelled.TryRemove(key, out _);
        bool mayHaveFiles = MayHaveFiles(snapshot, capture);
        await store.RemoveHelpers(snapshot, TaskAction.Capture, stop).ConfigureAwait(false);
        // The VolumeSnapshots of a Ready snapshot are removed by the garbage collector, or stay with deletionPolicy Retain.
        if (VolumeCuts.AreWanted(snapshot) && snapshot.Status?.ManifestChecksum is null)
            await store.Cuts.Remove(snapshot, stop).ConfigureAwait(false);

        // 3. Remove the files. If we created the claim for this snapshot, the garbage collector removes the whole claim.
        if (mayHaveFiles && snapshot.Spec.DeletionPolicy != "Retain" && snapshot.Spec.Target.ClaimTemplate is null)
        {
            try
            {
                if (IsAbandoned(snapshot))
                    await Abandon(snapshot, stop).ConfigureAwait(false);
                else if (await RemoveFiles(snapshot, stop).ConfigureAwait(false) is { } wait)
                    return wait;
            }
            catch (ApiException e) when (e.IsNamespaceTerminating)
            {
                // The claim is deleted with the namespace, and no pod can be created there to reach it. Keeping our finalizer would only
                // block the namespace forever.
                string claim = snapshot.Status!.ClaimName!;
                V1PersistentVolumeClaim? found = await store.FindClaim(key.Namespace, claim, stop).ConfigureAwait(false);
                await LeaveBehind(snapshot, found, "its namespace is being deleted", stop).ConfigureAwait(false);
            }
        }

        // 4. Release the object, and only then remove the task that proves that the files are gone: in the other order, a crash in between
        // would make us remove the files twice. The garbage collector removes what a crash leaves here.
        await store.RemoveFinalizer(snapshot, stop).ConfigureAwait(false);
        await store.RemoveHelpers(snapshot, TaskAction.Delete, stop).ConfigureAwait(false);
        return null;
    }

    private static bool IsAbandoned(VMBackgroundSnapshot snapshot) =>
        snapshot.Metadata.Annotations?.TryGetValue(Names.AbandonFilesAnnotation, out string? value) == true && value == "true";

    // The user declares by annotation that the files may stay. They may or may not exist; the event says where to look.
    private async Task Abandon(VMBackgroundSnapshot snapshot, CancellationToken stop)
    {
        SnapshotTask? task = await store.FindTask(snapshot, TaskAction.Delete, stop).ConfigureAwait(false);
        if (task?.Status?.Phase == TaskPhase.Succeeded)
            return;
        string left = $"directory {snapshot.Status!.Directory} on claim {snapshot.Status.ClaimName}";
        await events
            .Warning(
                snapshot,
                Reasons.FilesAbandoned,
                $"{left} was abandoned, as annotation {Names.AbandonFilesAnnotation} requests: remaining files contain the "
                    + "guest's memory; remove them yourself",
                stop
            )
            .ConfigureAwait(false);
        log.LogWarning("{Namespace}/{Name}: abandoned {Left}", snapshot.Metadata.NamespaceProperty, snapshot.Metadata.Name, left);
    }

    // The claim can no longer be mounted. Its files are deleted with the volume, or stay on it: only the volume's reclaim policy decides.
    // The event on the volume also reaches the user of a namespace that is being deleted, which accepts no events.
    private async Task LeaveBehind(VMBackgroundSnapshot snapshot, V1PersistentVolumeClaim? claim, string why, CancellationToken stop)
    {
        string? volume = claim?.Spec?.VolumeName;
        string directory = snapshot.Status!.Directory!,
            where = volume is null ? "its volume" : $"volume {volume}",
            rest = $"unless the reclaim policy of {where} is Delete, the guest's memory stays there; remove it yourself";
        log.LogWarning(
            "{Namespace}/{Name}: the files in directory {Directory} were not removed, because {Why}: {Rest}",
            snapshot.Metadata.NamespaceProperty,
            snapshot.Metadata.Name,
            directory,
            why,
            rest
        );
        await events
            .Warning(snapshot, Reasons.FilesLeftBehind, $"the files in directory {directory} were not removed, because {why}: {rest}", stop)
            .ConfigureAwait(false);
        if (volume is null)
            return;
        V1PersistentVolume about = new()
        {
            ApiVersion = "v1",
            Kind = "PersistentVolume",
            Metadata = new V1ObjectMeta { Name = volume },
        };
        string of = $"snapshot {snapshot.Metadata.NamespaceProperty}/{snapshot.Metadata.Name}";
        await events
            .Warning(about, Reasons.FilesLeftBehind, $"directory {directory} of {of} was not removed, because {why}: {rest}", stop)
            .ConfigureAwait(false);
    }

    private async Task<TimeSpan?> RemoveFiles(VMBackgroundSnapshot snapshot, CancellationToken stop)
    {
        string claim = snapshot.Status!.ClaimName!;
        SnapshotTask? task = await store.FindTask(snapshot, TaskAction.Delete, stop).ConfigureAwait(false);
        if (task?.Status?.Phase == TaskPhase.Succeeded)
            return null;
        V1PersistentVolumeClaim? found = await store.FindClaim(snapshot.Metadata.NamespaceProperty, claim, stop).ConfigureAwait(false);
        if (found is not { Metadata.DeletionTimestamp: null })
        {
            string why = $"claim {claim} is {(found is null ? "gone" : "being deleted")}";
            await LeaveBehind(snapshot, found, why, stop).ConfigureAwait(false);
            return null;
        }
        if (task?.Status?.Phase == TaskPhase.Failed)
        {
            await Say(
                    snapshot,
                    task.Status.Reason ?? Reasons.Failed,
                    $"the files in {snapshot.Status.Directory} on claim {claim} could not be removed: {task.Status.Message}"
                        + Remedy(snapshot),
                    isNews: true,
                    stop
                )
                .ConfigureAwait(false);
            // The failed task stays until the next attempt: its removal would be a change that triggers a reconcile at once.
            DateTimeOffset now = clock.GetUtcNow();
            TimeSpan left = (task.Status.CompletionTime ?? now.UtcDateTime) + RetryAfter - now;
            if (left > TimeSpan.Zero)
                return left < RetryAfter ? left : RetryAfter;
            await store.RemoveHelpers(snapshot, TaskAction.Delete, stop).ConfigureAwait(false);
            return Soon;
        }
        if (task is not null)
            return Soon;
        PodSummary carrier = await store.FindOrMakeCarrier(snapshot, TaskAction.Delete, claim, null, stop).ConfigureAwait(false);
        CarrierReadiness readiness = CarrierReadiness.Of(carrier, claim, null);
        if (!readiness.IsRunning)
        {
            string remedy = readiness.IsInTrouble ? Remedy(snapshot) : "";
            await Say(snapshot, readiness.Reason, readiness.Message + remedy, isNews: readiness.IsInTrouble, stop).ConfigureAwait(false);
            if (readiness.State == CarrierState.Ended)
                await store.RemoveEnded(carrier, clock.GetUtcNow(), stop).ConfigureAwait(false);
            return CarrierReadiness.LookAgain;
        }
        await store.MakeTask(snapshot, SnapshotTasks.Delete(snapshot, carrier), stop).ConfigureAwait(false);
        return Soon;
    }

    // Saves the state of the removal, and reports it as an event if a user should look at it.
    private async Task Say(VMBackgroundSnapshot snapshot, string reason, string message, bool isNews, CancellationToken stop)
    {
        SnapshotStatus status = StatusPatch.Copy(snapshot.Status);
        SnapshotState.Reconciling(snapshot, status, SnapshotPhase.Deleting, reason, message, clock.GetUtcNow());
        if (StatusPatch.Between(snapshot.Status, status) is not { } patch)
            return;
        await store.PatchStatus(snapshot, patch, stop).ConfigureAwait(false);
        if (isNews)
            await events.Warning(snapshot, reason, message, stop).ConfigureAwait(false);
    }

    private static string Remedy(VMBackgroundSnapshot snapshot) =>
        $" (if the volume is permanently lost: kubectl -n {snapshot.Metadata.NamespaceProperty} annotate vmbgs "
        + $"{snapshot.Metadata.Name} {Names.AbandonFilesAnnotation}=true leaves the files behind)";

    // An agent that reported the capture's failure itself left no files.
    private static bool MayHaveFiles(VMBackgroundSnapshot snapshot, SnapshotTask? capture) =>
        snapshot.Status is { Directory: not null, ClaimName: not null }
        && !(capture?.Status is { Phase: TaskPhase.Failed, Reason: not Reasons.AgentRestarted });
}
