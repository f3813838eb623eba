using System.Text.Json.Nodes;
using Bgsnap.Crds.Client;
using Bgsnap.Crds.Controller;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.KubeVirt.Restoring;
using Bgsnap.Operator.Snapshots;
using k8s.Models;

namespace Bgsnap.Operator.Restores;

/// <summary>The objects that a restore is about; read and made as <see cref="SnapshotStore"/> does it for snapshots.</summary>
internal sealed class RestoreStore(IApiClient api, SharedInformers shared)
{
    private readonly Objects _objects = new(api);
    private readonly MachineStore _machines = new(api);
    private readonly CarrierPods _carriers = new(api, shared.Restored);

    /// <summary>The restore, or null.</summary>
    public VMBackgroundRestore? Find(ObjectKey key) => shared.Restores.Find(key);

    /// <summary>Restores that have not ended.</summary>
    public IEnumerable<VMBackgroundRestore> UnderWay => shared.Restores.Items.Where(r => !RestorePhase.IsTerminal(r.Status?.Phase));

    /// <summary>Adds our finalizer.</summary>
    public Task AddFinalizer(VMBackgroundRestore restore, CancellationToken stop) =>
        _objects.AddFinalizer(Resources.Restores, shared.Restores, restore, Names.RestoreFinalizer, stop);

    /// <summary>Removes our finalizer; a deleted restore goes.</summary>
    public Task RemoveFinalizer(VMBackgroundRestore restore, CancellationToken stop) =>
        _objects.RemoveFinalizer(Resources.Restores, shared.Restores, restore, Names.RestoreFinalizer, stop);

    /// <summary>Changes the status, based on the version we have seen.</summary>
    public async Task PatchStatus(VMBackgroundRestore restore, JsonObject status, CancellationToken stop) =>
        restore.Status = (
            await _objects.PatchStatus(Resources.Restores, shared.Restores, restore, status, stop).ConfigureAwait(false)
        ).Status;

    /// <summary>The snapshot as our copy has it, or null.</summary>
    public VMBackgroundSnapshot? FindSnapshot(VMBackgroundRestore restore) =>
        shared.Snapshots.Find(new ObjectKey(restore.Metadata.NamespaceProperty, restore.Spec.SnapshotName));

    /// <summary>The snapshot as it is at this moment, or null.</summary>
    public Task<VMBackgroundSnapshot?> ReadSnapshot(VMBackgroundRestore restore, CancellationToken stop) =>
        _objects.GetOrNull(Resources.Snapshots, restore.Metadata.NamespaceProperty, restore.Spec.SnapshotName, stop);

    /// <summary>The restore's task of one kind, or null.</summary>
    public async Task<SnapshotTask?> FindTask(VMBackgroundRestore restore, string action, CancellationToken stop)
    {
        ObjectKey key = new(restore.Metadata.NamespaceProperty, RestoreNaming.Task(restore, action));
        // Once a task may have been made, its absence from our copy is not believed.
        return shared.Tasks.Find(key)
            ?? (
                restore.Status?.NodeName is null
                    ? null
                    : await _objects.GetOrNull(Resources.Tasks, key.Namespace, key.Name, stop).ConfigureAwait(false)
            );
    }

    /// <summary>Makes a task, or finds it made.</summary>
    public async Task MakeTask(SnapshotTask task, CancellationToken stop) =>
        shared.Tasks.Learn(await _objects.CreateOrGet(Resources.Tasks, task, stop).ConfigureAwait(false));

    /// <summary>Tells the agent to give up.</summary>
    public async Task Cancel(SnapshotTask task, CancellationToken stop) =>
        shared.Tasks.Learn(
            await api.MergePatch(
                    Resources.Tasks,
                    task.Metadata.NamespaceProperty,
                    task.Metadata.Name,
                    null,
                    new JsonObject { ["spec"] = new JsonObject { ["cancel"] = true } },
                    stop
                )
                .ConfigureAwait(false)
        );

    /// <summary>A carrier pod, made when it is not there.</summary>
    public Task<PodSummary> FindOrMakeCarrier(
        VMBackgroundRestore restore,
        string action,
        Func<V1Pod> build,
        string claim,
        string? node,
        CancellationToken stop
    ) =>
        _carriers.FindOrMake(
            new ObjectKey(restore.Metadata.NamespaceProperty, RestoreNaming.Carrier(restore, action)),
            build,
            claim,
            node,
            stop
        );

    /// <summary>Removes a carrier that has ended, so that another is made.</summary>
    public Task RemoveEnded(PodSummary carrier, DateTimeOffset now, CancellationToken stop) => _carriers.RemoveEnded(carrier, now, stop);

    /// <summary>Removes a carrier.</summary>
    /// <returns>Whether it is gone.</returns>
    public Task<bool> RemoveCarrier(VMBackgroundRestore restore, string action, CancellationToken stop) =>
        _carriers.Remove(new ObjectKey(restore.Metadata.NamespaceProperty, RestoreNaming.Carrier(restore, action)), stop);

    /// <summary>Removes tasks and carriers; their absence is fine.</summary>
    public async Task RemoveHelpers(VMBackgroundRestore restore, CancellationToken stop)
    {
        foreach (string action in new[] { TaskAction.Describe, TaskAction.RestoreDisks, TaskAction.Restore })
        {
            if (
                shared.Tasks.Find(new ObjectKey(restore.Metadata.NamespaceProperty, RestoreNaming.Task(restore, action))) is
                { Metadata.DeletionTimestamp: null } task
            )
                await _objects.DeleteIfThere(Resources.Tasks, task, null, stop).ConfigureAwait(false);
            await RemoveCarrier(restore, action, stop).ConfigureAwait(false);
        }
    }

    /// <summary>The pod that the VM runs in or is to run in, or null.</summary>
    public Task<PodSummary?> FindPod(VMBackgroundRestore restore, CancellationToken stop) =>
        _objects.GetOrNull(Resources.Pods, restore.Metadata.NamespaceProperty, RestoreNaming.Pod(restore), stop);

    /// <summary>The pod that the restored VM has been migrated to; null: it was not.</summary>
    public async Task<PodSummary?> FindMigrated(VMBackgroundRestore restore, CancellationToken stop) =>
        restore.Spec.Target.VirtualMachine is null
            ? null
            : await _machines.FindMigrated(restore, restore.Status?.PodUID, stop).ConfigureAwait(false);

    /// <summary>Makes the VM's pod, or finds one of that name.</summary>
    public async Task<PodSummary> MakePod(V1Pod pod, CancellationToken stop)
    {
        try
        {
            await api.Create(CoreResources.Pods, pod, stop).ConfigureAwait(false);
        }
        catch (ApiException e) when (e.IsAlreadyExists)
        {
            // Made before a crash, or by another: its label tells.
        }
        return await api.Get(Resources.Pods, pod.Metadata.NamespaceProperty, pod.Metadata.Name, stop).ConfigureAwait(false);
    }

    /// <summary>A claim, or null.</summary>
    public Task<V1PersistentVolumeClaim?> FindClaim(VMBackgroundRestore restore, string name, CancellationToken stop) =>
        _objects.GetOrNull(CoreResources.Claims, restore.Metadata.NamespaceProperty, name, stop);

    /// <summary>Makes a claim, or finds it made.</summary>
    public Task<V1PersistentVolumeClaim> MakeClaim(V1PersistentVolumeClaim claim, CancellationToken stop) =>
        _objects.CreateOrGet(CoreResources.Claims, claim, stop);

    /// <summary>
    /// Removes the VM and its claims, if they were made for this restore. A VM that was to be put back becomes what it was.
    /// </summary>
    /// <returns>Whether that is done; else it goes on, and is to be asked for again.</returns>
    public async Task<bool> Discard(VMBackgroundRestore restore, CancellationToken stop)
    {
        if (restore.Spec.Target.Pod is not null)
            return true;
        if (restore.Spec.Target.VirtualMachine is not null)
        {
            if (!await _machines.Discard(restore, stop).ConfigureAwait(false))
                return false;
        }
        else if (
            await FindPod(restore, stop).ConfigureAwait(false) is { Metadata.DeletionTimestamp: null } pod
            && RestoreNaming.IsOf(restore, pod.Metadata)
        )
            await _objects.DeleteIfThere(Resources.Pods, pod, null, stop).ConfigureAwait(false);
        foreach (
            string name in (restore.Spec.Target.Template?.Claims ?? [])
                .Select(c => c.Name)
                .Union((restore.Status?.Claims ?? []).Select(c => c.Name))
        )
        {
            if (
                await FindClaim(restore, name, stop).ConfigureAwait(false) is { Metadata.DeletionTimestamp: null } claim
                && RestoreNaming.IsOf(restore, claim.Metadata)
            )
                await _objects.DeleteIfThere(CoreResources.Claims, claim, null, stop).ConfigureAwait(false);
        }
        return true;
    }
}
