using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Events;
using Bgsnap.Operator.KubeVirt.Restoring;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Operator.Restores;

/// <summary>
/// Brings a restore to Ready in steps. Each call looks at what exists, takes the next missing step, and leaves the rest to the next call.
/// After a crash at any step, the next call finds what exists and continues.
/// </summary>
internal sealed class RestoreReconciler(
    RestoreStore store,
    RestoreNotes notes,
    RestoreFollow follow,
    RunningGuest running,
    TemplateSteps template,
    MachineSteps machine,
    RestoreRemoval removal,
    NodeQueue queue,
    OperatorOptions options,
    TimeProvider clock
) : IReconciler
{
    /// <summary>Builds the reconciler and its parts.</summary>
    public static RestoreReconciler Wire(
        IApiClient api,
        SharedInformers shared,
        NodeQueue queue,
        EventRecorder events,
        OperatorOptions options,
        TimeProvider clock,
        ILoggerFactory logs
    )
    {
        RestoreStore store = new(api, shared);
        RestoreNotes notes = new(store, events, clock, logs.CreateLogger<RestoreNotes>());
        RestoreFollow follow = new(store, notes, options, clock);
        DiskSteps disks = new(store, notes, follow, queue, options, clock);
        TemplateSteps template = new(store, notes, disks, queue, clock);
        MachineSteps machine = new(store, new MachineStore(api), notes, follow, disks, queue, options, clock);
        RunningGuest running = new(store, notes, queue, clock);
        return new RestoreReconciler(
            store,
            notes,
            follow,
            running,
            template,
            machine,
            new RestoreRemoval(store, notes, queue, events, options, clock),
            queue,
            options,
            clock
        );
    }

    /// <inheritdoc/>
    public async Task<TimeSpan?> Reconcile(ObjectKey key, CancellationToken stop)
    {
        if (store.Find(key) is not { } restore)
        {
            queue.Leave(key);
            notes.Forget(key);
            return null;
        }
        if (restore.Metadata.DeletionTimestamp is not null && !await running.NeedsRam(restore, stop).ConfigureAwait(false))
            return await removal.Remove(key, restore, stop).ConfigureAwait(false);
        if (RestorePhase.IsTerminal(restore.Status?.Phase))
            return await removal.TidyUp(key, restore, stop).ConfigureAwait(false);

        RestoreStatus status = StatusPatch.Copy(restore.Status, BgsnapJson.Default.RestoreStatus);
        TimeSpan? again = null;
        try
        {
            again = await Advance(key, restore, status, stop).ConfigureAwait(false);
        }
        catch (NotReadyException wait)
        {
            // A restore that may wait forever must not hold a node slot.
            if (wait.Phase == RestorePhase.Pending)
                queue.Leave(key);
            RestoreState.Reconciling(restore, status, wait.Phase, wait.Reason, wait.Message, clock.GetUtcNow());
            again = RestoreState.HasRun(status) ? wait.Again : Earliest(wait.Again, follow.Left(restore));
        }
        catch (TerminalException e)
        {
            RestoreState.Failed(restore, status, e.Reason, e.Message, clock.GetUtcNow());
        }
        catch (ApiException e) when (e.IsInvalid)
        {
            // The API server would reject it again: a quota, an admission policy, missing rights or an invalid pod. Requeue with backoff.
            queue.Leave(key);
            RestoreState.Reconciling(restore, status, RestorePhase.Pending, Reasons.RefusedByApiServer, e.Message, clock.GetUtcNow());
            await notes.Save(restore, status, stop).ConfigureAwait(false);
            throw;
        }
        await notes.Save(restore, status, stop).ConfigureAwait(false);
        return RestorePhase.IsTerminal(status.Phase) ? await removal.TidyUp(key, restore, stop).ConfigureAwait(false) : again;
    }

    private async Task<TimeSpan?> Advance(ObjectKey key, VMBackgroundRestore restore, RestoreStatus status, CancellationToken stop)
    {
        // 1. Finalizer: from here on a deleted restore stays until we have cleaned up.
        if (restore.Metadata.Finalizers?.Contains(Names.RestoreFinalizer) != true)
            await store.AddFinalizer(restore, stop).ConfigureAwait(false);

        // 2. If a task that loads RAM exists, follow it: it is under way, or has ended.
        if (await store.FindTask(restore, TaskAction.Restore, stop).ConfigureAwait(false) is { } task)
        {
            if (
                restore.Spec.Target.VirtualMachine is not null
                && !RestoreState.HasRun(status)
                && (task.Status?.GuestRuns == true || task.Status?.Phase == TaskPhase.Succeeded)
            )
                await machine.Settle(restore, stop).ConfigureAwait(false);
            if (RunningGuest.Has(status, task) && task.Status?.Phase != TaskPhase.Succeeded)
                return await running.Follow(key, restore, status, task, stop).ConfigureAwait(false);
            queue.Resume(task.Spec.NodeName, key);
            SnapshotTaskStatus end = await follow
                .Succeeded(restore, status, task, RestorePhase.Restoring, Reasons.RestoreOrdered, "memory", stop)
                .ConfigureAwait(false);
            RestoreState.Ready(restore, status, end, clock.GetUtcNow());
            return null;
        }
        if (
            !RestoreState.HasRun(status)
            && follow.Left(restore) <= TimeSpan.Zero
            && await store.FindTask(restore, TaskAction.RestoreDisks, stop).ConfigureAwait(false)
                is null
                    or { Status.Phase: TaskPhase.Succeeded }
            && await store.FindTask(restore, TaskAction.Describe, stop).ConfigureAwait(false)
                is null
                    or { Status.Phase: TaskPhase.Succeeded }
        )
            throw new TerminalException(
                Reasons.DeadlineExceeded,
                $"the guest did not run within {RestoreFollow.Deadline(restore)} of the restore's creation; last status: "
                    + $"{Conditions.Get(status, ConditionTypes.Ready)?.Message ?? "not started"}"
            );

        // 3. Find the snapshot, which cannot be removed from here on.
        VMBackgroundSnapshot snapshot = await FindSnapshot(restore, status, stop).ConfigureAwait(false);

        // 4. Find or create the VM whose QEMU waits for the snapshot.
        SourceVm vm =
            restore.Spec.Target.Template is not null ? await template.MakeVm(key, restore, status, snapshot, stop).ConfigureAwait(false)
            : restore.Spec.Target.VirtualMachine is not null
                ? await machine.MakeVm(key, restore, status, snapshot, stop).ConfigureAwait(false)
            : await FindVm(restore, status, stop).ConfigureAwait(false);
        (status.NodeName, status.PodName, status.PodUID) = (vm.NodeName, vm.PodName, vm.PodUID);

        // 5. Take a slot on its node.
        RestoreCarrier.Place(queue, options, key, restore, vm.NodeName);

        // 6. Mount the snapshot's claim on that node.
        string claim = snapshot.Status!.ClaimName!;
        PodSummary carrier = await store
            .FindOrMakeCarrier(
                restore,
                TaskAction.Restore,
                () => RestorePods.Carrier(restore, snapshot, TaskAction.Restore, vm.NodeName, options),
                stop
            )
            .ConfigureAwait(false);
        await RestoreCarrier.Running(store, queue, key, carrier, claim, vm.NodeName, clock, stop).ConfigureAwait(false);

        // 7. Create the agent's task, after saving the status: if our copy is stale, the API server rejects the patch and no task is
        // created.
        RestoreState.Reconciling(
            restore,
            status,
            RestorePhase.Restoring,
            Reasons.RestoreOrdered,
            AgentMessages.WaitingFor(vm.NodeName),
            clock.GetUtcNow()
        );
        await notes.Save(restore, status, stop).ConfigureAwait(false);
        await store.MakeTask(RestoreTasks.Memory(restore, snapshot, vm, carrier), stop).ConfigureAwait(false);
        return Earliest(options.AgentSilence, follow.Left(restore));
    }

    private async Task<VMBackgroundSnapshot> FindSnapshot(VMBackgroundRestore restore, RestoreStatus status, CancellationToken stop)
    {
        string name = restore.Spec.SnapshotName;
        VMBackgroundSnapshot? snapshot = store.FindSnapshot(restore);
        if (status.SnapshotUID is { } uid && snapshot?.Metadata.Uid != uid)
            throw new TerminalException(
                Reasons.SnapshotGone,
                $"snapshot {name} is gone{(snapshot is null ? "" : ", and another snapshot has its name now")}: create another restore"
            );
        if (snapshot is null)
            throw new NotReadyException(
                Reasons.SnapshotNotFound,
                $"snapshot {name} does not exist in namespace {restore.Metadata.NamespaceProperty}: create it, or delete this restore"
            );
        if (status.SnapshotUID is not null)
            return snapshot;
        if (snapshot.Metadata.DeletionTimestamp is not null)
            throw Deleted(name);
        if (snapshot.Status?.Phase == SnapshotPhase.Failed)
            throw new TerminalException(
                Reasons.SnapshotFailed,
                $"snapshot {name} has failed ({Conditions.Get(snapshot.Status, ConditionTypes.Ready)?.Reason}) and has no "
                    + "data: name another"
            );
        if (snapshot.Status is not { Phase: SnapshotPhase.Ready, ClaimName: not null, Directory: not null })
            throw new NotReadyException(
                Reasons.SnapshotNotReady,
                $"snapshot {name} is not Ready yet (phase {snapshot.Status?.Phase ?? SnapshotPhase.Pending})"
            )
            {
                Again = TimeSpan.FromMinutes(1),
            };

        // Record the snapshot's uid before checking that the snapshot is not being deleted: a deletion after that check finds the record.
        status.SnapshotUID = snapshot.Metadata.Uid;
        RestoreState.Reconciling(
            restore,
            status,
            RestorePhase.Preparing,
            Reasons.SnapshotFound,
            $"snapshot {name} is Ready and is kept until this restore has ended",
            clock.GetUtcNow()
        );
        await notes.Save(restore, status, stop).ConfigureAwait(false);
        if (await store.ReadSnapshot(restore, stop).ConfigureAwait(false) is not { Metadata.DeletionTimestamp: null })
            throw Deleted(name);
        return snapshot;
    }

    private static TerminalException Deleted(string name) =>
        new(Reasons.SnapshotDeleted, $"snapshot {name} is being deleted: name another");

    private async Task<SourceVm> FindVm(VMBackgroundRestore restore, RestoreStatus status, CancellationToken stop)
    {
        string name = status.PodName = RestoreNaming.Pod(restore);
        PodSummary? pod = await store.FindPod(restore, stop).ConfigureAwait(false);
        if (status.PodUID is { } uid && uid != pod?.Metadata.Uid)
            throw new TerminalException(
                Reasons.PodGone,
                $"pod {name} is gone{(pod is null ? "" : ", and another pod has its name now")}: start it with -incoming "
                    + "defer, then create another restore"
            );
        if (pod is null)
            throw new NotReadyException(
                Reasons.PodNotFound,
                $"pod {name} does not exist in namespace {restore.Metadata.NamespaceProperty}: start it with -incoming defer, or "
                    + "delete this restore"
            );
        // One QEMU takes one snapshot; the older restore gets it.
        if (
            store.UnderWay.Where(r => r.Status?.PodUID == pod.Metadata.Uid && r.Metadata.Uid != restore.Metadata.Uid).MinBy(Age)
                is { } other
            && Age(other).CompareTo(Age(restore)) < 0
        )
            throw new NotReadyException(Reasons.PodInUse, $"restore {other.Metadata.Name} is using pod {name}");
        return SourceVm.Of(pod, "another restore");
    }

    private static (DateTime, string) Age(VMBackgroundRestore r) => (r.Metadata.CreationTimestamp ?? DateTime.MaxValue, r.Metadata.Name);

    private static TimeSpan Earliest(TimeSpan a, TimeSpan b) => b > TimeSpan.Zero && b < a ? b : a;
}
