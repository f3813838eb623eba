using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Events;
using Bgsnap.Operator.KubeVirt;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.VolumeSnapshots;
using Bgsnap.Vocabulary;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Operator.Snapshots;

/// <summary>
/// Brings a snapshot to Ready in steps. Each call looks at what exists, takes the next missing step, and leaves the rest to the next call.
/// After a crash at any step, the next call finds what exists and continues.
/// </summary>
internal sealed class SnapshotReconciler(
    SnapshotStore store,
    NodeQueue queue,
    SnapshotRemoval removal,
    EventRecorder events,
    OperatorOptions options,
    TimeProvider clock,
    ILogger<SnapshotReconciler> log
) : IReconciler
{
    private static readonly TimeSpan DefaultDeadline = TimeSpan.FromHours(1);

    // Agents report every second; users and other controllers need the status less often.
    private static readonly TimeSpan ProgressEvery = TimeSpan.FromSeconds(2);
    private readonly ConcurrentDictionary<ObjectKey, DateTimeOffset> _written = new();
    private readonly HeldCapture _held = new(store, options, clock);

    /// <inheritdoc/>
    public async Task<TimeSpan?> Reconcile(ObjectKey key, CancellationToken stop)
    {
        if (store.Find(key) is not { } snapshot)
        {
            queue.Leave(key);
            _written.TryRemove(key, out _);
            return null;
        }
        if (snapshot.Metadata.DeletionTimestamp is not null)
            return await removal.Remove(key, snapshot, stop).ConfigureAwait(false);

        if (SnapshotPhase.IsTerminal(snapshot.Status?.Phase))
        {
            queue.Leave(key);
            await TidyUp(snapshot, snapshot.Status!.Phase, stop).ConfigureAwait(false);
            return null;
        }

        SnapshotStatus status = StatusPatch.Copy(snapshot.Status);
        TimeSpan? again;
        try
        {
            again = await Advance(key, snapshot, status, stop).ConfigureAwait(false);
        }
        catch (NotReadyException wait)
        {
            // A snapshot that may wait forever must not hold a node slot.
            if (wait.Phase == SnapshotPhase.Pending)
                queue.Leave(key);
            SnapshotState.Reconciling(snapshot, status, wait.Phase, wait.Reason, wait.Message, clock.GetUtcNow());
            again = Earliest(wait.Again, Left(snapshot));
        }
        catch (TerminalException e)
        {
            SnapshotState.Failed(snapshot, status, e.Reason, e.Message, clock.GetUtcNow());
            again = null;
        }
        catch (ApiException e) when (e.IsInvalid)
        {
            // The API server would reject it again: a quota, an admission policy or missing rights. Requeue with backoff.
            queue.Leave(key);
            SnapshotState.Reconciling(snapshot, status, SnapshotPhase.Pending, Reasons.RefusedByApiServer, e.Message, clock.GetUtcNow());
            await Save(key, snapshot, status, stop).ConfigureAwait(false);
            throw;
        }
        await Save(key, snapshot, status, stop).ConfigureAwait(false);
        return again;
    }

    private async Task<TimeSpan?> Advance(ObjectKey key, VMBackgroundSnapshot snapshot, SnapshotStatus status, CancellationToken stop)
    {
        // 1. Finalizer: from here on a deleted snapshot stays until we have cleaned up.
        if (snapshot.Metadata.Finalizers?.Contains(Names.Finalizer) != true)
            await store.AddFinalizer(snapshot, stop).ConfigureAwait(false);

        // 2. If a task exists, follow it: it is under way, or has ended.
        SnapshotTask? task = await store.FindTask(snapshot, TaskAction.Capture, stop).ConfigureAwait(false);
        if (task is not null)
        {
            // A capture that has ended needs no slot, even if the storage still uploads.
            if (TaskPhase.IsTerminal(task.Status?.Phase))
                queue.Leave(key);
            else
                queue.Resume(task.Spec.NodeName, key);
            return await Follow(key, snapshot, status, task, stop).ConfigureAwait(false);
        }
        if (Left(snapshot) <= TimeSpan.Zero)
            throw new TerminalException(
                Reasons.DeadlineExceeded,
                $"the snapshot was not Ready within {Deadline(snapshot)} of its creation; last status: "
                    + $"{Conditions.Get(status, ConditionTypes.Ready)?.Message ?? "not started"}"
            );

        // 3. Find the VM and the node it runs on now.
        SourceVm vm = await FindSource(snapshot, stop).ConfigureAwait(false);
        // The VM may have migrated while the claim was being mounted; a carrier on its former node is useless.
        if (snapshot.Status?.NodeName is { } before && before != vm.NodeName)
            await store.RemoveCarrier(snapshot, TaskAction.Capture, stop).ConfigureAwait(false);
        (status.NodeName, status.PodName, status.PodUID) = (vm.NodeName, vm.PodName, vm.PodUID);

        // Check that the storage can make VolumeSnapshots before we touch anything.
        if (VolumeCuts.AreWanted(snapshot))
            await store.Cuts.Check(snapshot, vm, stop).ConfigureAwait(false);

        // 4. Find or create the claim.
        status.ClaimName = await FindOrMakeClaim(snapshot, vm, stop).ConfigureAwait(false);

        // 5. Take a slot on the node, unless the carrier does not start: such a snapshot could not use the slot, and two of them would keep
        // taking it from each other for as long as both wait.
        if (store.FindCarrier(snapshot, TaskAction.Capture) is { } early)
            await ThrowIfInTrouble(key, early, status.ClaimName, vm.NodeName, stop).ConfigureAwait(false);
        int place = queue.Enter(vm.NodeName, key, snapshot.Metadata.CreationTimestamp ?? DateTime.MinValue);
        if (place > 0)
            throw new NotReadyException(
                Reasons.Queued,
                $"number {place} in the queue of node {vm.NodeName}, which captures {options.MaxConcurrentCaptures} at a time"
            )
            {
                Phase = SnapshotPhase.Queued,
                Again = TimeSpan.FromMinutes(2),
            };

        // 6. Mount the claim on that node.
        PodSummary carrier = await store
            .FindOrMakeCarrier(snapshot, TaskAction.Capture, status.ClaimName, vm.NodeName, stop)
            .ConfigureAwait(false);
        await ThrowIfInTrouble(key, carrier, status.ClaimName, vm.NodeName, stop).ConfigureAwait(false);
        CarrierReadiness.Of(carrier, status.ClaimName, vm.NodeName).ThrowUnlessRunning();

        // 7. Create the agent's task, with the VM's Kubernetes objects. First save the status: if our copy is stale because another replica
        // leads, the API server rejects the patch and no task is created. The status also records the directory before any file can exist
        // in it.
        string? objects = KubeVirtSource.Is(snapshot) ? await store.MachineObjects.Read(snapshot, stop).ConfigureAwait(false) : null;
        status.Directory = SnapshotNaming.Directory(snapshot);
        SnapshotState.Reconciling(
            snapshot,
            status,
            SnapshotPhase.Capturing,
            Reasons.CaptureOrdered,
            AgentMessages.WaitingFor(vm.NodeName),
            clock.GetUtcNow()
        );
        await Save(key, snapshot, status, stop).ConfigureAwait(false);
        await store.MakeTask(snapshot, SnapshotTasks.Capture(snapshot, vm, carrier, objects), stop).ConfigureAwait(false);
        return Earliest(options.AgentSilence, Left(snapshot));
    }

    // A claim that cannot be mounted must not block other snapshots of this node.
    private async Task ThrowIfInTrouble(ObjectKey key, PodSummary carrier, string claim, string node, CancellationToken stop)
    {
        CarrierReadiness readiness = CarrierReadiness.Of(carrier, claim, node);
        if (!readiness.IsInTrouble)
            return;
        queue.Leave(key);
        if (readiness.State == CarrierState.Ended)
            await store.RemoveEnded(carrier, clock.GetUtcNow(), stop).ConfigureAwait(false);
        readiness.ThrowUnlessRunning();
    }

    private async Task<TimeSpan?> Follow(
        ObjectKey key,
        VMBackgroundSnapshot snapshot,
        SnapshotStatus status,
        SnapshotTask task,
        CancellationToken stop
    )
    {
        DateTimeOffset now = clock.GetUtcNow();
        SnapshotTaskStatus report = task.Status ?? new SnapshotTaskStatus();
        switch (report.Phase)
        {
            case TaskPhase.Succeeded:
                if (VolumeCuts.AreWanted(snapshot))
                    await _held.WaitForStorage(snapshot, task, Left(snapshot), Deadline(snapshot), stop).ConfigureAwait(false);
                StatusFold.Result(snapshot, status, report, now);
                return null;
            case TaskPhase.Failed:
                // An agent that reported its failure itself has removed its files.
                if (report.Reason != Reasons.AgentRestarted)
                    status.Directory = null;
                if (Left(snapshot) <= TimeSpan.Zero && report.Reason == Reasons.Cancelled)
                    throw new TerminalException(
                        Reasons.DeadlineExceeded,
                        $"the snapshot was not Ready within {Deadline(snapshot)} of its creation and was cancelled: {report.Message}"
                    );
                if (VolumeCuts.AreWanted(snapshot))
                    await _held.ThrowStorageError(snapshot, report, stop).ConfigureAwait(false);
                throw new TerminalException(report.Reason ?? Reasons.Failed, report.Message ?? "the agent gave no reason");
        }
        if (Left(snapshot) <= TimeSpan.Zero)
        {
            if (task.Spec.Cancel != true)
                await store.Cancel(task, stop).ConfigureAwait(false);
            else if (report.Phase is null || Left(snapshot) <= -options.CancelPatience)
                throw new TerminalException(
                    Reasons.DeadlineExceeded,
                    $"the snapshot was not Ready within {Deadline(snapshot)} of its creation, and the agent on node "
                        + $"{task.Spec.NodeName} did not answer the cancellation"
                );
            return options.CancelPatience;
        }
        if (report.Phase is null)
        {
            TimeSpan age = now - (task.Metadata.CreationTimestamp ?? now.UtcDateTime);
            bool silent = age >= options.AgentSilence;
            throw new NotReadyException(
                silent ? Reasons.AgentSilent : Reasons.CaptureOrdered,
                silent ? AgentMessages.Silent(task.Spec.NodeName) : AgentMessages.WaitingFor(task.Spec.NodeName)
            )
            {
                Phase = SnapshotPhase.Capturing,
                Again = options.AgentSilence,
            };
        }
        if (task.Spec.Cancel == true)
            return Left(snapshot);
        if (report.Holding == true && task.Spec.Release != true)
            return Earliest(await _held.Hold(snapshot, status, task, stop).ConfigureAwait(false), Left(snapshot));
        bool news = report.PointInTime is not null && status.PointInTime is null;
        if (!news && _written.TryGetValue(key, out DateTimeOffset at) && now - at < ProgressEvery)
            return Earliest(at + ProgressEvery - now, Left(snapshot));
        StatusFold.Progress(snapshot, status, report, now);
        SnapshotState.Reconciling(
            snapshot,
            status,
            SnapshotPhase.Capturing,
            Reasons.Capturing,
            $"the agent on node {task.Spec.NodeName} is capturing",
            now
        );
        return Left(snapshot);
    }

    private async Task<SourceVm> FindSource(VMBackgroundSnapshot snapshot, CancellationToken stop)
    {
        // For KubeVirt the name identifies the VM, not the pod it runs in.
        if (KubeVirtSource.Is(snapshot))
            return await store.KubeVirt.Find(snapshot, stop).ConfigureAwait(false);
        string name = snapshot.Spec.Source.Name;
        PodSummary? pod = await store.FindPod(snapshot.Metadata.NamespaceProperty, name, stop).ConfigureAwait(false);
        if (pod is not null && (snapshot.Status?.PodUID is not { } uid || uid == pod.Metadata.Uid))
            return SourceVm.Of(pod);
        // The pod is gone: another pod of that name is another VM.
        if (snapshot.Status?.PodUID is not null)
            throw new TerminalException(
                Reasons.SourceEnded,
                $"pod {name} is gone{(pod is null ? "" : ", and another pod has its name now")}: create another snapshot"
            );
        throw new NotReadyException(
            Reasons.SourceNotFound,
            $"pod {name} does not exist in namespace {snapshot.Metadata.NamespaceProperty}: create it, or delete this snapshot"
        );
    }

    private async Task<string> FindOrMakeClaim(VMBackgroundSnapshot snapshot, SourceVm vm, CancellationToken stop)
    {
        string name = snapshot.Spec.Target.PersistentVolumeClaim?.ClaimName ?? SnapshotNaming.Claim(snapshot);
        var claim = await store.FindClaim(snapshot.Metadata.NamespaceProperty, name, stop).ConfigureAwait(false);
        if (snapshot.Spec.Target.ClaimTemplate is { } template)
        {
            if (claim is null)
            {
                string size = template.Size ?? await store.SizeFor(snapshot, vm, stop).ConfigureAwait(false);
                claim = await store.MakeClaim(ClaimBuilder.Build(snapshot, size), stop).ConfigureAwait(false);
            }
            else if (claim.Metadata.Labels?.TryGetValue(Names.SnapshotLabel, out string? uid) != true || uid != snapshot.Metadata.Uid)
            {
                throw new TerminalException(
                    Reasons.ClaimExists,
                    $"claim {name} already exists and does not belong to this snapshot: give the snapshot another name, or "
                        + "name the claim in "
                        + "spec.target.persistentVolumeClaim"
                );
            }
        }
        if (claim is null)
            throw new NotReadyException(
                Reasons.ClaimNotFound,
                $"claim {name} does not exist in namespace {snapshot.Metadata.NamespaceProperty}: create it, or delete this snapshot"
            );
        if (claim.Metadata.DeletionTimestamp is not null)
            throw new TerminalException(Reasons.ClaimEnded, $"claim {name} is being deleted: name another");
        if (claim.Status?.Phase == "Lost")
            throw new TerminalException(Reasons.ClaimLost, $"claim {name} has lost its volume: name another");
        return name;
    }

    private async Task Save(ObjectKey key, VMBackgroundSnapshot snapshot, SnapshotStatus status, CancellationToken stop)
    {
        SnapshotStatus? before = snapshot.Status;
        if (StatusPatch.Between(before, status) is { } patch)
        {
            await store.PatchStatus(snapshot, patch, stop).ConfigureAwait(false);
            _written[key] = clock.GetUtcNow();
        }
        await Report(snapshot, before, status, stop).ConfigureAwait(false);
        if (!SnapshotPhase.IsTerminal(status.Phase))
            return;
        queue.Leave(key);
        _written.TryRemove(key, out _);
        SnapshotMetrics.Ended(snapshot, status, clock.GetUtcNow());
        await TidyUp(snapshot, status.Phase, stop).ConfigureAwait(false);
    }

    private async Task TidyUp(VMBackgroundSnapshot snapshot, string? phase, CancellationToken stop)
    {
        await store.RemoveHelpers(snapshot, TaskAction.Capture, stop).ConfigureAwait(false);
        if (phase == SnapshotPhase.Failed && VolumeCuts.AreWanted(snapshot))
            await store.Cuts.Remove(snapshot, stop).ConfigureAwait(false);
    }

    // One event for each change of reason, and one for the point in time. That second one also shows that the agent has started, so phase
    // Capturing gets no event of its own.
    private async Task Report(VMBackgroundSnapshot snapshot, SnapshotStatus? old, SnapshotStatus status, CancellationToken stop)
    {
        if (status.PointInTime is not null && old?.PointInTime is null)
            await events
                .Normal(snapshot, Reasons.PointInTime, Conditions.Get(status, ConditionTypes.PointInTime)!.Message, stop)
                .ConfigureAwait(false);
        var (before, after) = (Conditions.Get(old, ConditionTypes.Ready), Conditions.Get(status, ConditionTypes.Ready));
        if (after is null || (before?.Reason == after.Reason && old?.Phase == status.Phase))
            return;
        log.LogInformation(
            "{Namespace}/{Name}: {Phase}, {Reason}: {Message}",
            snapshot.Metadata.NamespaceProperty,
            snapshot.Metadata.Name,
            status.Phase,
            after.Reason,
            after.Message
        );
        switch (status.Phase)
        {
            case SnapshotPhase.Ready:
                await events
                    .Normal(snapshot, Reasons.SnapshotReady, $"{after.Message}: downtime {status.Downtime}, {status.Size}", stop)
                    .ConfigureAwait(false);
                break;
            case SnapshotPhase.Failed:
                await events.Warning(snapshot, Reasons.SnapshotFailed, $"{after.Reason}: {after.Message}", stop).ConfigureAwait(false);
                break;
            case SnapshotPhase.Pending:
                await events.Warning(snapshot, after.Reason, after.Message, stop).ConfigureAwait(false);
                break;
            case SnapshotPhase.Capturing when after.Reason == Reasons.Capturing:
                break;
            default:
                await events.Normal(snapshot, after.Reason, after.Message, stop).ConfigureAwait(false);
                break;
        }
    }

    private static TimeSpan Deadline(VMBackgroundSnapshot snapshot) => Durations.Parse(snapshot.Spec.Capture?.Deadline, DefaultDeadline);

    private TimeSpan Left(VMBackgroundSnapshot snapshot) =>
        (snapshot.Metadata.CreationTimestamp ?? clock.GetUtcNow().UtcDateTime) + Deadline(snapshot) - clock.GetUtcNow();

    private static TimeSpan Earliest(TimeSpan a, TimeSpan b) => b > TimeSpan.Zero && b < a ? b : a;
}
