using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;
using k8s.Models;

namespace Bgsnap.Operator.Restores;

/// <summary>Creates the claims of a VM's disks and has an agent fill them, before any QEMU opens them.</summary>
internal sealed class DiskSteps(
    RestoreStore store,
    RestoreNotes notes,
    RestoreFollow follow,
    NodeQueue queue,
    OperatorOptions options,
    TimeProvider clock
)
{
    /// <summary>Creates the claims that do not exist yet.</summary>
    /// <exception cref="TerminalException">A claim of that name was not made for this restore, or would not hold its disk.</exception>
    public async Task MakeClaims(VMBackgroundRestore restore, RestoreStatus status, RestorePlan plan, CancellationToken stop)
    {
        // Check all claims before creating any.
        List<(PlannedDisk Disk, V1PersistentVolumeClaim Wanted, V1PersistentVolumeClaim? There)> claims = [];
        foreach (PlannedDisk disk in plan.Disks)
        {
            V1PersistentVolumeClaim wanted = RestoredClaims.Build(restore, disk);
            V1PersistentVolumeClaim? there = await store.FindClaim(restore, disk.Claim.Name, stop).ConfigureAwait(false);
            if (there is not null)
                RestoredClaims.Check(restore, there);
            claims.Add((disk, wanted, there));
        }
        // Recorded before we create them: when the restore is deleted, the record tells which claims to remove.
        if (claims.Count > 0)
            status.Claims =
            [
                .. claims.Select(c => new RestoredClaim
                {
                    Disk = c.Disk.Claim.Disk,
                    Name = c.Disk.Claim.Name,
                    Size = c.Wanted.Spec.Resources.Requests["storage"].ToString(),
                }),
            ];
        if (restore.Spec.Target.VirtualMachine is not null && claims.Exists(c => c.There is null))
        {
            RestoreState.Reconciling(
                restore,
                status,
                RestorePhase.Preparing,
                Reasons.ClaimsStarting,
                "creating the claims of the disks",
                clock.GetUtcNow()
            );
            await notes.Save(restore, status, stop).ConfigureAwait(false);
        }
        foreach ((_, V1PersistentVolumeClaim wanted, V1PersistentVolumeClaim? there) in claims)
            if (there is null)
                RestoredClaims.Check(restore, await store.MakeClaim(wanted, stop).ConfigureAwait(false));
    }

    /// <summary>
    /// Has an agent write the disks. Once the status says that they are written, they are never written again: a QEMU may use them by then.
    /// </summary>
    /// <exception cref="NotReadyException">The agent has not finished.</exception>
    public async Task Write(
        ObjectKey key,
        VMBackgroundRestore restore,
        RestoreStatus status,
        VMBackgroundSnapshot snapshot,
        RestorePlan plan,
        CancellationToken stop
    )
    {
        if (RestoreState.HasDisks(status) || !plan.Disks.Any(d => d.IsWritten))
            return;
        SnapshotTask? task = await store.FindTask(restore, TaskAction.RestoreDisks, stop).ConfigureAwait(false);
        if (task is null)
        {
            string claims = string.Join(", ", plan.Disks.Select(d => d.Claim.Name).Prepend(snapshot.Status!.ClaimName));
            PodSummary writer = await store
                .FindOrMakeCarrier(restore, TaskAction.RestoreDisks, () => RestorePods.Writer(restore, snapshot, plan, options), stop)
                .ConfigureAwait(false);
            await RestoreCarrier.Running(store, queue, key, writer, claims, null, clock, stop).ConfigureAwait(false);
            string node = status.NodeName = writer.Spec!.NodeName!;
            RestoreCarrier.Place(queue, options, key, restore, node);
            // Saved before the task is created; see SnapshotReconciler.
            RestoreState.Reconciling(
                restore,
                status,
                RestorePhase.WritingDisks,
                Reasons.DisksOrdered,
                AgentMessages.WaitingFor(node),
                clock.GetUtcNow()
            );
            await notes.Save(restore, status, stop).ConfigureAwait(false);
            await store.MakeTask(RestoreTasks.Disks(restore, snapshot, plan, writer), stop).ConfigureAwait(false);
            throw new NotReadyException(Reasons.DisksOrdered, AgentMessages.WaitingFor(node))
            {
                Phase = RestorePhase.WritingDisks,
                Again = options.AgentSilence,
            };
        }
        queue.Resume(task.Spec.NodeName, key);
        await follow.Succeeded(restore, status, task, RestorePhase.WritingDisks, Reasons.DisksOrdered, "disks", stop).ConfigureAwait(false);
        RestoreState.DisksRestored(restore, status, clock.GetUtcNow());
        RestoreState.Reconciling(
            restore,
            status,
            RestorePhase.Starting,
            Reasons.PodStarting,
            "starting the virtual machine",
            clock.GetUtcNow()
        );
        await notes.Save(restore, status, stop).ConfigureAwait(false);
    }
}
