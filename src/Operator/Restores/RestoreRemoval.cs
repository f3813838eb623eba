using System.Collections.Concurrent;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Events;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;

namespace Bgsnap.Operator.Restores;

/// <summary>
/// Cleans up after a restore. A running guest is left alone, with its pod and claims. If the restore failed or was deleted before the guest
/// ran, the pod and claims are removed, so nothing is left half restored.
/// </summary>
internal sealed class RestoreRemoval(
    RestoreStore store,
    RestoreNotes notes,
    NodeQueue queue,
    EventRecorder events,
    OperatorOptions options,
    TimeProvider clock
)
{
    private static readonly TimeSpan DiscardAgain = TimeSpan.FromSeconds(2);
    private readonly ConcurrentDictionary<ObjectKey, DateTimeOffset> _cancelled = new();

    /// <summary>Cleans up after a restore that has ended: removes its helpers and our finalizer.</summary>
    public async Task<TimeSpan?> TidyUp(ObjectKey key, VMBackgroundRestore restore, CancellationToken stop)
    {
        queue.Leave(key);
        if (restore.Metadata.Finalizers?.Contains(Names.RestoreFinalizer) != true)
            return null;
        if (
            restore.Status!.Phase == RestorePhase.Failed
            && !RestoreState.HasRun(restore.Status)
            && !await store.Discard(restore, stop).ConfigureAwait(false)
        )
            return DiscardAgain;
        await store.RemoveHelpers(restore, stop).ConfigureAwait(false);
        await store.RemoveFinalizer(restore, stop).ConfigureAwait(false);
        return null;
    }

    /// <summary>Takes the next step of the removal of a deleted restore.</summary>
    public async Task<TimeSpan?> Remove(ObjectKey key, VMBackgroundRestore restore, CancellationToken stop)
    {
        if (restore.Metadata.Finalizers?.Contains(Names.RestoreFinalizer) != true)
        {
            queue.Leave(key);
            return null;
        }

        // 1. Cancel the tasks under way.
        SnapshotTask? memory = await store.FindTask(restore, TaskAction.Restore, stop).ConfigureAwait(false);
        SnapshotTask? disks = await store.FindTask(restore, TaskAction.RestoreDisks, stop).ConfigureAwait(false);
        SnapshotTask? machine = restore.Spec.Target.VirtualMachine is null
            ? null
            : await store.FindTask(restore, TaskAction.Describe, stop).ConfigureAwait(false);
        foreach (
            SnapshotTask task in new[] { machine, disks, memory }.OfType<SnapshotTask>().Where(t => !TaskPhase.IsTerminal(t.Status?.Phase))
        )
        {
            if (task.Spec.Cancel != true)
            {
                await store.Cancel(task, stop).ConfigureAwait(false);
                _cancelled[key] = clock.GetUtcNow();
                await events
                    .Normal(restore, Reasons.RestoreCancelled, "the restore was deleted before the guest ran", stop)
                    .ConfigureAwait(false);
                return options.CancelPatience;
            }
            // Counted from the cancellation that this leader saw, not from the deletion: there may have been no leader in between.
            TimeSpan waited = clock.GetUtcNow() - _cancelled.GetOrAdd(key, clock.GetUtcNow());
            if (waited < options.CancelPatience)
                return options.CancelPatience - waited;
            await events
                .Warning(
                    restore,
                    Reasons.AgentSilent,
                    $"the agent on node {task.Spec.NodeName} did not answer; removing the objects of the restore anyway",
                    stop
                )
                .ConfigureAwait(false);
        }
        queue.Leave(key);
        _cancelled.TryRemove(key, out _);

        // 2. Remove what we created, unless a guest runs in it. Save the status first: if our copy is stale, the API server rejects the
        // patch and nothing is removed.
        if (
            !RunningGuest.Has(restore.Status, memory)
            && restore.Status?.Phase != RestorePhase.Ready
            && memory?.Status?.Phase != TaskPhase.Succeeded
        )
        {
            RestoreStatus status = StatusPatch.Copy(restore.Status, BgsnapJson.Default.RestoreStatus);
            RestoreState.Reconciling(
                restore,
                status,
                RestorePhase.Deleting,
                Reasons.Deleting,
                "removing the objects that were created " + "for the restore",
                clock.GetUtcNow()
            );
            await notes.Save(restore, status, stop).ConfigureAwait(false);
            if (!await store.Discard(restore, stop).ConfigureAwait(false))
                return DiscardAgain;
        }

        // 3. Release the object, and only then remove the task that shows whether the guest runs: in the other order, a crash in between
        // would make us remove a running guest.
        await store.RemoveFinalizer(restore, stop).ConfigureAwait(false);
        await store.RemoveHelpers(restore, stop).ConfigureAwait(false);
        return null;
    }
}
