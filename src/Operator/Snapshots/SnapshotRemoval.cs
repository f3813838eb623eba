using System.Collections.Concurrent;
using Bgsnap.Crds.Client;
using Bgsnap.Crds.Controller;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Events;
using Bgsnap.Operator.VolumeSnapshots;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Operator.Snapshots;

/// <summary>
/// Takes a deleted snapshot down: a capture under way is given up, the files go as the deletion policy says, then the object.
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

    /// <summary>The next step.</summary>
    public async Task<TimeSpan?> Remove(ObjectKey key, VMBackgroundSnapshot snapshot, CancellationToken stop)
    {
        if (snapshot.Metadata.Finalizers?.Contains(Names.Finalizer) != true)
        {
            queue.Leave(key);
            return null;
        }

        // 1. Who restores it reads its files.
        if (await store.FindRestoreOf(snapshot, stop).ConfigureAwait(false) is { } restore)
        {
            await Say(
                    snapshot,
                    InUse,
                    $"VMBackgroundRestore {restore.Metadata.Name} reads it: the snapshot goes when that has ended, or when you delete that",
                    stop
                )
                .ConfigureAwait(false);
            return Soon;
        }

        // 2. A capture under way ends first: the guest is freed before anything else.
        SnapshotTask? capture = await store.FindTask(snapshot, TaskAction.Capture, stop).ConfigureAwait(false);
        if (capture is not null && !TaskPhase.IsTerminal(capture.Status?.Phase))
        {
            if (capture.Spec.Cancel != true)
            {
                await store.Cancel(capture, stop).ConfigureAwait(false);
                _cancelled[key] = clock.GetUtcNow();
                await events
                    .Normal(snapshot, "CaptureCancelled", "the snapshot was deleted while it was being captured", stop)
                    .ConfigureAwait(false);
                return options.CancelPatience;
            }
            // Counted from when the agent was told, not from the deletion: nobody may have led in between.
            TimeSpan waited = clock.GetUtcNow() - _cancelled.GetOrAdd(key, clock.GetUtcNow());
            if (waited < options.CancelPatience)
                return options.CancelPatience - waited;
            await events
                .Warning(
                    snapshot,
                    "AgentSilent",
                    $"the agent on node {capture.Spec.NodeName} did not answer; the capture is left to end by itself",
                    stop
                )
                .ConfigureAwait(false);
        }
        queue.Leave(key);
        _cancelled.TryRemove(key, out _);
        bool mayHaveFiles = MayHaveFiles(snapshot, capture);
        await store.RemoveHelpers(snapshot, TaskAction.Capture, stop).ConfigureAwait(false);
        // Those of a snapshot that became Ready go by their owner, or stay with deletionPolicy Retain.
        if (VolumeCuts.AreWanted(snapshot) && snapshot.Status?.ManifestChecksum is null)
            await store.Cuts.Remove(snapshot, stop).ConfigureAwait(false);

        // 3. The files. A claim that was made for the snapshot goes as a whole, by its owner reference.
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
                // The claim goes with the namespace, and no pod can be made any more to reach it: holding on to the snapshot would
                // only hold up the namespace for ever.
                log.LogWarning(
                    "{Namespace}/{Name}: its namespace is being deleted; the files in {Directory} go or stay with the claim's volume",
                    key.Namespace,
                    key.Name,
                    snapshot.Status!.Directory
                );
            }
        }

        // 4. The object, and only then what shows that its files are gone: were that removed first, a crash in between would have them
        // removed once more. What a crash leaves here goes with its owner.
        await store.RemoveFinalizer(snapshot, stop).ConfigureAwait(false);
        await store.RemoveHelpers(snapshot, TaskAction.Delete, stop).ConfigureAwait(false);
        return null;
    }

    private const string InUse = "InUseByRestore";

    private static bool IsAbandoned(VMBackgroundSnapshot snapshot) =>
        snapshot.Metadata.Annotations?.TryGetValue(Names.AbandonFilesAnnotation, out string? value) == true && value == "true";

    // The user's word that nobody waits for the files any more. They may be there or not: what is told is where to look.
    private async Task Abandon(VMBackgroundSnapshot snapshot, CancellationToken stop)
    {
        SnapshotTask? task = await store.FindTask(snapshot, TaskAction.Delete, stop).ConfigureAwait(false);
        if (task?.Status?.Phase == TaskPhase.Succeeded)
            return;
        string left = $"directory {snapshot.Status!.Directory} on claim {snapshot.Status.ClaimName}";
        await events
            .Warning(
                snapshot,
                "FilesAbandoned",
                $"{left} was given up, as {Names.AbandonFilesAnnotation} asks: what is left of it holds the guest's memory and is "
                    + "yours to remove",
                stop
            )
            .ConfigureAwait(false);
        log.LogWarning("{Namespace}/{Name}: {Left} was given up", snapshot.Metadata.NamespaceProperty, snapshot.Metadata.Name, left);
    }

    private async Task<TimeSpan?> RemoveFiles(VMBackgroundSnapshot snapshot, CancellationToken stop)
    {
        string claim = snapshot.Status!.ClaimName!;
        if (
            await store.FindClaim(snapshot.Metadata.NamespaceProperty, claim, stop).ConfigureAwait(false)
            is not { Metadata.DeletionTimestamp: null }
        )
            return null;
        SnapshotTask? task = await store.FindTask(snapshot, TaskAction.Delete, stop).ConfigureAwait(false);
        if (task?.Status?.Phase == TaskPhase.Succeeded)
            return null;
        if (task?.Status?.Phase == TaskPhase.Failed)
        {
            await Say(
                    snapshot,
                    task.Status.Reason ?? "Failed",
                    $"the files in {snapshot.Status.Directory} on claim {claim} could not be removed: {task.Status.Message}",
                    stop
                )
                .ConfigureAwait(false);
            // The failed task stays for as long as nothing is tried: its removal would be a change, and lead here at once.
            DateTimeOffset now = clock.GetUtcNow();
            TimeSpan left = (task.Status.CompletionTime ?? now.UtcDateTime) + RetryAfter - now;
            if (left > TimeSpan.Zero)
                return left < RetryAfter ? left : RetryAfter;
            await store.RemoveHelpers(snapshot, TaskAction.Delete, stop).ConfigureAwait(false);
            return Soon;
        }
        if (task is not null)
            return Soon;
        PodSummary? carrier = null;
        try
        {
            carrier = await store.FindOrMakeCarrier(snapshot, TaskAction.Delete, claim, null, stop).ConfigureAwait(false);
            CarrierState.ThrowUnlessRunning(carrier, claim, null);
        }
        catch (Waiting wait)
        {
            await Say(snapshot, wait.Reason, wait.Message, stop).ConfigureAwait(false);
            if (wait.Reason == CarrierState.Ended)
                await store.RemoveEnded(carrier!, clock.GetUtcNow(), stop).ConfigureAwait(false);
            return wait.Again;
        }
        await store.MakeTask(snapshot, TaskOf.Delete(snapshot, carrier), stop).ConfigureAwait(false);
        return Soon;
    }

    private async Task Say(VMBackgroundSnapshot snapshot, string reason, string message, CancellationToken stop)
    {
        SnapshotStatus status = StatusPatch.Copy(snapshot.Status);
        if (reason is not (CarrierState.Starting or InUse))
            message +=
                $" (should that be lost for good: kubectl -n {snapshot.Metadata.NamespaceProperty} annotate vmbgs "
                + $"{snapshot.Metadata.Name} {Names.AbandonFilesAnnotation}=true leaves the files behind)";
        SnapshotState.Going(snapshot, status, SnapshotPhase.Deleting, reason, message, clock.GetUtcNow());
        if (StatusPatch.Between(snapshot.Status, status) is not { } patch)
            return;
        await store.PatchStatus(snapshot, patch, stop).ConfigureAwait(false);
        if (reason != CarrierState.Starting)
            await events.Warning(snapshot, reason, message, stop).ConfigureAwait(false);
    }

    // A capture that its agent gave up in good order left nothing.
    private static bool MayHaveFiles(VMBackgroundSnapshot snapshot, SnapshotTask? capture) =>
        snapshot.Status is { Directory: not null, ClaimName: not null }
        && !(capture?.Status is { Phase: TaskPhase.Failed, Reason: not SnapshotReconciler.AgentLost });
}
