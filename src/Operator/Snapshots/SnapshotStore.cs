using System.Globalization;
using System.Text.Json.Nodes;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.KubeVirt;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.VolumeSnapshots;
using k8s.Models;

namespace Bgsnap.Operator.Snapshots;

/// <summary>
/// Reads and writes the Kubernetes objects of a snapshot. Reads use the informers' copies where a stale copy does no harm. Every object we
/// create has a name that can exist only once, so a stale copy leads to AlreadyExists and never to a duplicate.
/// </summary>
internal sealed class SnapshotStore(
    IApiClient api,
    Informer<VMBackgroundSnapshot> snapshots,
    Informer<SnapshotTask> tasks,
    Informer<PodSummary> carriers,
    OperatorOptions options
)
{
    private readonly Objects _objects = new(api);
    private readonly CarrierPods _pods = new(api, carriers);

    /// <summary>The VolumeSnapshots of the disks, for diskMethod VolumeSnapshot.</summary>
    public VolumeCuts Cuts { get; } = new(api);

    /// <summary>Finds KubeVirt VMs.</summary>
    public KubeVirtSource KubeVirt { get; } = new(api);

    /// <summary>Reads the Kubernetes objects of KubeVirt VMs.</summary>
    public MachineObjects MachineObjects { get; } = new(api);

    /// <summary>The snapshot, or null.</summary>
    public VMBackgroundSnapshot? Find(ObjectKey key) => snapshots.Find(key);

    /// <summary>Adds our finalizer.</summary>
    public Task AddFinalizer(VMBackgroundSnapshot snapshot, CancellationToken stop) =>
        _objects.AddFinalizer(Resources.Snapshots, snapshots, snapshot, Names.Finalizer, stop);

    /// <summary>Removes our finalizer; the API server then deletes the object.</summary>
    public Task RemoveFinalizer(VMBackgroundSnapshot snapshot, CancellationToken stop) =>
        _objects.RemoveFinalizer(Resources.Snapshots, snapshots, snapshot, Names.Finalizer, stop);

    /// <summary>Patches the status; fails if the object has changed since we read it.</summary>
    public async Task PatchStatus(VMBackgroundSnapshot snapshot, JsonObject status, CancellationToken stop) =>
        snapshot.Status = (await _objects.PatchStatus(Resources.Snapshots, snapshots, snapshot, status, stop).ConfigureAwait(false)).Status;

    /// <summary>
    /// A restore of this snapshot that is under way, or null. Asks the API server: an informer's copy might predate the snapshot's
    /// deletion.
    /// </summary>
    public async Task<VMBackgroundRestore?> FindRestoreOf(VMBackgroundSnapshot snapshot, CancellationToken stop) =>
        (await api.List(Resources.Restores, snapshot.Metadata.NamespaceProperty, null, stop).ConfigureAwait(false)).Items.FirstOrDefault(
            r => r.Status?.SnapshotUID == snapshot.Metadata.Uid && !RestorePhase.IsTerminal(r.Status.Phase)
        );

    /// <summary>The snapshot's task for one action, or null.</summary>
    public async Task<SnapshotTask?> FindTask(VMBackgroundSnapshot snapshot, string action, CancellationToken stop)
    {
        SnapshotTask? task = tasks.Find(new ObjectKey(snapshot.Metadata.NamespaceProperty, SnapshotNaming.Task(snapshot, action)));
        // A task may exist although our copy does not show it: ask the API server.
        if (task is null && snapshot.Status?.Directory is not null)
            task = await _objects
                .GetOrNull(Resources.Tasks, snapshot.Metadata.NamespaceProperty, SnapshotNaming.Task(snapshot, action), stop)
                .ConfigureAwait(false);
        return task;
    }

    /// <summary>Creates a task, or returns the existing one.</summary>
    public async Task<SnapshotTask> MakeTask(VMBackgroundSnapshot snapshot, SnapshotTask task, CancellationToken stop)
    {
        SnapshotTask made = await _objects.CreateOrGet(Resources.Tasks, task, stop).ConfigureAwait(false);
        tasks.Learn(made);
        return made;
    }

    /// <summary>Asks the agent to cancel the task.</summary>
    public async Task Cancel(SnapshotTask task, CancellationToken stop) =>
        tasks.Learn(
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

    /// <summary>Asks the agent to resume the guest.</summary>
    public async Task Release(SnapshotTask task, IReadOnlyDictionary<string, string> volumeSnapshots, CancellationToken stop)
    {
        JsonObject names = [];
        foreach ((string disk, string name) in volumeSnapshots)
            names[disk] = name;
        JsonObject patch = new()
        {
            ["spec"] = new JsonObject { ["release"] = true, ["volumeSnapshots"] = names },
        };
        tasks.Learn(
            await api.MergePatch(Resources.Tasks, task.Metadata.NamespaceProperty, task.Metadata.Name, null, patch, stop)
                .ConfigureAwait(false)
        );
    }

    /// <summary>The carrier pod as our copy has it, or null; a terminating pod does not count.</summary>
    public PodSummary? FindCarrier(VMBackgroundSnapshot snapshot, string action) =>
        carriers.Find(new ObjectKey(snapshot.Metadata.NamespaceProperty, SnapshotNaming.Carrier(snapshot, action)))
            is { Metadata.DeletionTimestamp: null } known
            ? known
            : null;

    /// <summary>Returns the carrier pod; creates it if it does not exist.</summary>
    public Task<PodSummary> FindOrMakeCarrier(
        VMBackgroundSnapshot snapshot,
        string action,
        string claim,
        string? node,
        CancellationToken stop
    ) =>
        _pods.FindOrMake(
            new ObjectKey(snapshot.Metadata.NamespaceProperty, SnapshotNaming.Carrier(snapshot, action)),
            () => CarrierPod.Build(snapshot, action, claim, node, options),
            stop
        );

    /// <summary>Removes a carrier that has ended, so that another is created.</summary>
    public Task RemoveEnded(PodSummary carrier, DateTimeOffset now, CancellationToken stop) => _pods.RemoveEnded(carrier, now, stop);

    /// <summary>Removes a task and its carrier, if they exist.</summary>
    public async Task RemoveHelpers(VMBackgroundSnapshot snapshot, string action, CancellationToken stop)
    {
        string ns = snapshot.Metadata.NamespaceProperty;
        if (tasks.Find(new ObjectKey(ns, SnapshotNaming.Task(snapshot, action))) is { Metadata.DeletionTimestamp: null } task)
            await _objects.DeleteIfThere(Resources.Tasks, task, null, stop).ConfigureAwait(false);
        await RemoveCarrier(snapshot, action, stop).ConfigureAwait(false);
    }

    /// <summary>Removes a carrier, if it exists.</summary>
    public Task RemoveCarrier(VMBackgroundSnapshot snapshot, string action, CancellationToken stop) =>
        _pods.Remove(new ObjectKey(snapshot.Metadata.NamespaceProperty, SnapshotNaming.Carrier(snapshot, action)), stop);

    /// <summary>A pod, or null.</summary>
    public Task<PodSummary?> FindPod(string ns, string name, CancellationToken stop) => _objects.GetOrNull(Resources.Pods, ns, name, stop);

    /// <summary>A claim, or null.</summary>
    public Task<V1PersistentVolumeClaim?> FindClaim(string ns, string name, CancellationToken stop) =>
        _objects.GetOrNull(CoreResources.Claims, ns, name, stop);

    /// <summary>Creates a claim, or returns the existing one.</summary>
    public Task<V1PersistentVolumeClaim> MakeClaim(V1PersistentVolumeClaim claim, CancellationToken stop) =>
        _objects.CreateOrGet(CoreResources.Claims, claim, stop);

    /// <summary>The size of a claim that can hold a snapshot of the VM; see <see cref="ClaimBuilder.Size"/>.</summary>
    public async Task<string> SizeFor(VMBackgroundSnapshot snapshot, SourceVm vm, CancellationToken stop)
    {
        string ns = snapshot.Metadata.NamespaceProperty;
        PodSummary pod = await api.Get(Resources.Pods, ns, vm.PodName, stop).ConfigureAwait(false);
        // For a KubeVirt VM, the hotplugged volumes are attached to other pods than the launcher.
        IEnumerable<string> claims = vm.Libvirt?.Claims
            ?? (pod.Spec?.Volumes ?? []).Select(v => v.PersistentVolumeClaim?.ClaimName).OfType<string>();
        List<string> disks = [];
        foreach (string name in claims.Distinct())
        {
            V1PersistentVolumeClaim? disk = await FindClaim(ns, name, stop).ConfigureAwait(false);
            if (disk?.Status?.Capacity?.TryGetValue("storage", out ResourceQuantity? capacity) == true)
                disks.Add(capacity!.ToString());
            else if (disk?.Spec?.Resources?.Requests?.TryGetValue("storage", out ResourceQuantity? request) == true)
                disks.Add(request!.ToString());
        }
        if (vm.Libvirt is { OtherBytes: > 0 } machine)
            disks.Add(machine.OtherBytes.ToString(CultureInfo.InvariantCulture));
        return ClaimBuilder.Size(vm.Libvirt?.Memory ?? ClaimBuilder.MemoryOf(pod, vm.Container), disks);
    }
}
