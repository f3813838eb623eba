using System.Collections.Concurrent;
using Bgsnap.Crds.Client;
using Bgsnap.Crds.Controller;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Events;
using Bgsnap.Operator.Snapshots;

namespace Bgsnap.Operator.Restores;

/// <summary>
/// What becomes of what a restore made. A guest that runs is left alone, its pod and claims with it; of a restore that failed or was
/// deleted before, they are removed: nothing runs half.
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

    /// <summary>After a restore has ended: it needs its helpers no more, nor this operator to be deleted.</summary>
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

    /// <summary>The next step of a restore that is deleted.</summary>
    public async Task<TimeSpan?> Remove(ObjectKey key, VMBackgroundRestore restore, CancellationToken stop)
    {
        if (restore.Metadata.Finalizers?.Contains(Names.RestoreFinalizer) != true)
        {
            queue.Leave(key);
            return null;
        }

        // 1. An agent at work ends first.
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
                    .Normal(restore, "RestoreCancelled", "the restore was deleted before the guest ran", stop)
                    .ConfigureAwait(false);
                return options.CancelPatience;
            }
            // Counted from when the agent was told, not from the deletion: nobody may have led in between.
            TimeSpan waited = clock.GetUtcNow() - _cancelled.GetOrAdd(key, clock.GetUtcNow());
            if (waited < options.CancelPatience)
                return options.CancelPatience - waited;
            await events
                .Warning(
                    restore,
                    "AgentSilent",
                    $"the agent on node {task.Spec.NodeName} did not answer; what was made for the restore is removed all the same",
                    stop
                )
                .ConfigureAwait(false);
        }
        queue.Leave(key);
        _cancelled.TryRemove(key, out _);

        // 2. What was made, unless a guest runs in it. Noted first: should our copy be old, the note is refused and nothing is removed.
        if (
            !RunningGuest.Has(restore.Status, memory)
            && restore.Status?.Phase != RestorePhase.Ready
            && memory?.Status?.Phase != TaskPhase.Succeeded
        )
        {
            RestoreStatus status = StatusPatch.Copy(restore.Status, BgsnapJson.Default.RestoreStatus);
            RestoreState.Going(restore, status, RestorePhase.Deleting, "Deleting", "what was made for it is removed", clock.GetUtcNow());
            await notes.Save(restore, status, stop).ConfigureAwait(false);
            if (!await store.Discard(restore, stop).ConfigureAwait(false))
                return DiscardAgain;
        }

        // 3. The object, and only then what shows whether the guest runs: were the task removed first, a crash in between would have a
        // running guest removed.
        await store.RemoveFinalizer(restore, stop).ConfigureAwait(false);
        await store.RemoveHelpers(restore, stop).ConfigureAwait(false);
        return null;
    }
}
