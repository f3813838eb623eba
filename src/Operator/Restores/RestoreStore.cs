using System.Text.Json.Nodes;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.KubeVirt.Restoring;
using Bgsnap.Operator.Shared;
using k8s.Models;

namespace Bgsnap.Operator.Restores;

/// <summary>
/// Reads and writes the Kubernetes objects of a restore. Reads use the informers' copies where a stale copy does no harm. Every object we
/// create has a name that can exist only once, so a stale copy leads to AlreadyExists and never to a duplicate.
/// </summary>
internal sealed class RestoreStore(IApiClient api, SharedInformers shared)
{
    private readonly Objects _objects = new(api);
    private readonly MachineStore _machines = new(api);
    private readonly CarrierPods _carriers = new(api, shared.Restored);

    /// <summary>The restore, or null.</summary>
    public VMBackgroundRestore? Find(ObjectKey key) => shared.Restores.Find(key);

    /// <summary>The restores under way.</summary>
    public IEnumerable<VMBackgroundRestore> UnderWay => shared.Restores.Items.Where(r => !RestorePhase.IsTerminal(r.Status?.Phase));

    /// <summary>Adds our finalizer.</summary>
    public Task AddFinalizer(VMBackgroundRestore restore, CancellationToken stop) =>
        _objects.AddFinalizer(Resources.Restores, shared.Restores, restore, Names.RestoreFinalizer, stop);

    /// <summary>Removes our finalizer; the API server then removes a deleted restore.</summary>
    public Task RemoveFinalizer(VMBackgroundRestore restore, CancellationToken stop) =>
        _objects.RemoveFinalizer(Resources.Restores, shared.Restores, restore, Names.RestoreFinalizer, stop);

    /// <summary>Patches the status; fails if the object has changed since we read it.</summary>
    public async Task PatchStatus(VMBackgroundRestore restore, JsonObject status, CancellationToken stop) =>
        restore.Status = (
            await _objects.PatchStatus(Resources.Restores, shared.Restores, restore, status, stop).ConfigureAwait(false)
        ).Status;

    /// <summary>The snapshot as our copy has it, or null.</summary>
    public VMBackgroundSnapshot? FindSnapshot(VMBackgroundRestore restore) =>
        shared.Snapshots.Find(new ObjectKey(restore.Metadata.NamespaceProperty, restore.Spec.SnapshotName));

    /// <summary>The snapshot as the API server has it now, or null.</summary>
    public Task<VMBackgroundSnapshot?> ReadSnapshot(VMBackgroundRestore restore, CancellationToken stop) =>
        _objects.GetOrNull(Resources.Snapshots, restore.Metadata.NamespaceProperty, restore.Spec.SnapshotName, stop);

    /// <summary>The restore's task for one action, or null.</summary>
    public async Task<SnapshotTask?> FindTask(VMBackgroundRestore restore, string action, CancellationToken stop)
    {
        ObjectKey key = new(restore.Metadata.NamespaceProperty, RestoreNaming.Task(restore, action));
        // A task may exist although our copy does not show it: ask the API server.
        return shared.Tasks.Find(key)
            ?? (
                restore.Status?.NodeName is null
                    ? null
                    : await _objects.GetOrNull(Resources.Tasks, key.Namespace, key.Name, stop).ConfigureAwait(false)
            );
    }

    /// <summary>Creates a task, or finds the existing one.</summary>
    public async Task MakeTask(SnapshotTask task, CancellationToken stop) =>
        shared.Tasks.Learn(await _objects.CreateOrGet(Resources.Tasks, task, stop).ConfigureAwait(false));

    /// <summary>Asks the agent to cancel the task.</summary>
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

    /// <summary>Returns a carrier pod; creates it if it does not exist.</summary>
    public Task<PodSummary> FindOrMakeCarrier(VMBackgroundRestore restore, string action, Func<V1Pod> build, CancellationToken stop) =>
        _carriers.FindOrMake(new ObjectKey(restore.Metadata.NamespaceProperty, RestoreNaming.Carrier(restore, action)), build, stop);

    /// <summary>Removes a carrier that has ended, so that another is created.</summary>
    public Task RemoveEnded(PodSummary carrier, DateTimeOffset now, CancellationToken stop) => _carriers.RemoveEnded(carrier, now, stop);

    /// <summary>Removes a carrier.</summary>
    /// <returns>Whether it is gone.</returns>
    public Task<bool> RemoveCarrier(VMBackgroundRestore restore, string action, CancellationToken stop) =>
        _carriers.Remove(new ObjectKey(restore.Metadata.NamespaceProperty, RestoreNaming.Carrier(restore, action)), stop);

    /// <summary>Removes tasks and carriers, if they exist.</summary>
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

    /// <summary>The pod that the VM runs in or will run in, or null.</summary>
    public Task<PodSummary?> FindPod(VMBackgroundRestore restore, CancellationToken stop) =>
        _objects.GetOrNull(Resources.Pods, restore.Metadata.NamespaceProperty, RestoreNaming.Pod(restore), stop);

    /// <summary>The pod that the restored VM has migrated to; null: it has not migrated.</summary>
    public async Task<PodSummary?> FindMigrated(VMBackgroundRestore restore, CancellationToken stop) =>
        restore.Spec.Target.VirtualMachine is null
            ? null
            : await _machines.FindMigrated(restore, restore.Status?.PodUID, stop).ConfigureAwait(false);

    /// <summary>Creates the VM's pod, or returns the existing pod of that name.</summary>
    public async Task<PodSummary> MakePod(V1Pod pod, CancellationToken stop)
    {
        try
        {
            await api.Create(CoreResources.Pods, pod, stop).ConfigureAwait(false);
        }
        catch (ApiException e) when (e.IsAlreadyExists)
        {
            // We created it before a crash, or somebody else did: its label shows which.
        }
        return await api.Get(Resources.Pods, pod.Metadata.NamespaceProperty, pod.Metadata.Name, stop).ConfigureAwait(false);
    }

    /// <summary>A claim, or null.</summary>
    public Task<V1PersistentVolumeClaim?> FindClaim(VMBackgroundRestore restore, string name, CancellationToken stop) =>
        _objects.GetOrNull(CoreResources.Claims, restore.Metadata.NamespaceProperty, name, stop);

    /// <summary>Creates a claim, or returns the existing one.</summary>
    public Task<V1PersistentVolumeClaim> MakeClaim(V1PersistentVolumeClaim claim, CancellationToken stop) =>
        _objects.CreateOrGet(CoreResources.Claims, claim, stop);

    /// <summary>
    /// Removes the VM and its claims, if they were created for this restore. A VM that was being put back gets its former spec.
    /// </summary>
    /// <returns>True: done. False: in progress; call again.</returns>
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
