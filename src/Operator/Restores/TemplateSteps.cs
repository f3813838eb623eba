using Bgsnap.Crds.Client;
using Bgsnap.Crds.Controller;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Snapshots;
using k8s.Models;

namespace Bgsnap.Operator.Restores;

/// <summary>Makes the VM of a template, in steps: claims, their content, then its pod. QEMU never sees a disk that is half written.</summary>
internal sealed class TemplateSteps(RestoreStore store, RestoreNotes notes, RestoreFollow follow, NodeQueue queue, OperatorOptions options, TimeProvider clock)
{
    /// <summary>The VM, once its QEMU waits.</summary>
    /// <exception cref="Waiting">A step goes on.</exception>
    /// <exception cref="Hopeless">It cannot be made.</exception>
    public async Task<SourceVm> MakeVm(ObjectKey key, VMBackgroundRestore restore, RestoreStatus status, VMBackgroundSnapshot snapshot, CancellationToken stop)
    {
        // a. What fits what. Nothing is made for a restore that cannot succeed.
        TemplatePlan plan = TemplatePlan.Of(restore, snapshot);
        status.PodName = RestoreNaming.Pod(restore);
        PodSummary? pod = await store.FindPod(restore, stop).ConfigureAwait(false);
        if (pod is not null && !RestoreNaming.IsOf(restore, pod.Metadata))
            throw new Hopeless("PodExists", $"pod {status.PodName} exists and was not made for this restore: delete it, or give the template's pod another name, then create another restore");
        if (pod is null && status.PodUID is not null)
            throw new Hopeless("PodGone", $"pod {status.PodName}, which was made for this restore, is gone: create another restore");

        if (pod is null)
        {
            // b. The claims.
            await MakeClaims(restore, status, plan, stop).ConfigureAwait(false);

            // c. Their content. Once noted as written they are not written again, since a QEMU may have them by then.
            if (plan.Disks.Any(d => d.IsWritten) && !RestoreState.HasDisks(status)) await WriteDisks(key, restore, status, snapshot, plan, stop).ConfigureAwait(false);

            // d. The VM gets the writer's place.
            if (!await store.RemoveCarrier(restore, TaskAction.RestoreDisks, stop).ConfigureAwait(false))
                throw Starting("PodStarting", $"pod {status.PodName} is started once the pod that wrote its disks has ended");
            RestoreState.Going(restore, status, RestorePhase.Starting, "PodStarting", $"pod {status.PodName} is being started", clock.GetUtcNow());
            await notes.Save(restore, status, stop).ConfigureAwait(false);
            pod = await store.MakePod(RestorePods.Vm(restore, plan, RestoreState.HasDisks(status) ? status.NodeName : null), stop).ConfigureAwait(false);
            if (!RestoreNaming.IsOf(restore, pod.Metadata)) throw Starting("PodStarting", $"pod {status.PodName} is in the way");
        }

        // e. Its QEMU.
        status.PodUID ??= pod.Metadata.Uid;
        if (status.PodUID != pod.Metadata.Uid) throw new Hopeless("PodGone", $"pod {status.PodName}, which was made for this restore, is gone and another has taken its name: create another restore");
        try
        {
            return SourceVm.Of(pod, "another restore");
        }
        catch (Waiting)
        {
            throw Why(key, pod);
        }
    }

    private async Task MakeClaims(VMBackgroundRestore restore, RestoreStatus status, TemplatePlan plan, CancellationToken stop)
    {
        // All are looked at before any is made.
        List<(PlannedDisk Disk, V1PersistentVolumeClaim Wanted, V1PersistentVolumeClaim? There)> claims = [];
        foreach (PlannedDisk disk in plan.Disks)
        {
            V1PersistentVolumeClaim wanted = RestoredClaims.Build(restore, disk);
            V1PersistentVolumeClaim? there = await store.FindClaim(restore, disk.Claim.Name, stop).ConfigureAwait(false);
            if (there is not null) RestoredClaims.Check(restore, there);
            claims.Add((disk, wanted, there));
        }
        foreach ((_, V1PersistentVolumeClaim wanted, V1PersistentVolumeClaim? there) in claims)
            if (there is null) RestoredClaims.Check(restore, await store.MakeClaim(wanted, stop).ConfigureAwait(false));
        if (claims.Count > 0) status.Claims = [.. claims.Select(c => new RestoredClaim { Disk = c.Disk.Claim.Disk, Name = c.Disk.Claim.Name, Size = c.Wanted.Spec.Resources.Requests["storage"].ToString() })];
    }

    private async Task WriteDisks(ObjectKey key, VMBackgroundRestore restore, RestoreStatus status, VMBackgroundSnapshot snapshot, TemplatePlan plan, CancellationToken stop)
    {
        SnapshotTask? task = await store.FindTask(restore, TaskAction.RestoreDisks, stop).ConfigureAwait(false);
        if (task is null)
        {
            string claims = string.Join(", ", plan.Disks.Select(d => d.Claim.Name).Prepend(snapshot.Status!.ClaimName));
            PodSummary writer = await store.FindOrMakeCarrier(restore, TaskAction.RestoreDisks, () => RestorePods.Writer(restore, snapshot, plan, options), claims, null, stop).ConfigureAwait(false);
            await RestoreCarrier.Running(store, queue, key, writer, claims, null, clock, stop).ConfigureAwait(false);
            string node = status.NodeName = writer.Spec!.NodeName!;
            RestoreCarrier.Place(queue, options, key, restore, node);
            // Noted before it is ordered; see SnapshotReconciler.
            RestoreState.Going(restore, status, RestorePhase.WritingDisks, "DisksOrdered", RestoreFollow.Told(node), clock.GetUtcNow());
            await notes.Save(restore, status, stop).ConfigureAwait(false);
            await store.MakeTask(RestoreTasks.Disks(restore, snapshot, plan, writer), stop).ConfigureAwait(false);
            throw new Waiting("DisksOrdered", RestoreFollow.Told(node)) { Phase = RestorePhase.WritingDisks, Again = options.AgentSilence };
        }
        queue.Resume(task.Spec.NodeName, key);
        await follow.Succeeded(restore, status, task, RestorePhase.WritingDisks, "DisksOrdered", "disks", stop).ConfigureAwait(false);
        RestoreState.DisksRestored(restore, status, clock.GetUtcNow());
        RestoreState.Going(restore, status, RestorePhase.Starting, "PodStarting", $"pod {status.PodName} is started next", clock.GetUtcNow());
        await notes.Save(restore, status, stop).ConfigureAwait(false);
    }

    // A pod that cannot come must not keep other restores of its node waiting.
    private Waiting Why(ObjectKey key, PodSummary pod)
    {
        PodConditionSummary? scheduled = pod.Status?.Conditions?.FirstOrDefault(c => c.Type == "PodScheduled");
        ContainerStateDetail? waiting = pod.Status?.ContainerStatuses?.Select(c => c.State?.Waiting).FirstOrDefault(w => w?.Reason is not (null or "ContainerCreating" or "PodInitializing"));
        string name = pod.Metadata.Name;
        if (scheduled is not { Status: "False", Message.Length: > 0 } && waiting is null) return Starting("PodStarting", $"pod {name} is being started");
        queue.Leave(key);
        return waiting is null
            ? Starting("PodUnschedulable", $"pod {name} cannot be scheduled: {scheduled!.Message}")
            : Starting("PodNotStarting", $"pod {name} does not start: {waiting.Reason}: {waiting.Message}");
    }

    private static Waiting Starting(string reason, string message) => new(reason, message) { Phase = RestorePhase.Starting, Again = TimeSpan.FromSeconds(15) };
}
