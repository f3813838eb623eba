using System.Text.Json.Nodes;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Shared;

namespace Bgsnap.Operator.Schedules;

/// <summary>Reads and writes the Kubernetes objects of a schedule.</summary>
internal sealed class ScheduleStore(IApiClient api, SharedInformers shared)
{
    private readonly Objects _objects = new(api);

    /// <summary>The schedule, or null.</summary>
    public VMBackgroundSnapshotSchedule? Find(ObjectKey key) => shared.Schedules.Find(key);

    /// <summary>Its snapshots.</summary>
    public List<VMBackgroundSnapshot> SnapshotsOf(ObjectKey key) =>
        [.. shared.Snapshots.Items.Where(s => ScheduledSnapshot.IsOf(s, key.Namespace, key.Name))];

    /// <summary>The snapshot of this name as our copy has it, or null.</summary>
    public VMBackgroundSnapshot? FindSnapshot(string ns, string name) => shared.Snapshots.Find(new ObjectKey(ns, name));

    /// <summary>
    /// Creates a snapshot, or returns the existing one of that name. Our copy learns of it only by the watch, and so does the snapshot
    /// controller.
    /// </summary>
    public Task<VMBackgroundSnapshot> MakeSnapshot(VMBackgroundSnapshot snapshot, CancellationToken stop) =>
        _objects.CreateOrGet(Resources.Snapshots, snapshot, stop);

    /// <summary>Deletes a snapshot; the snapshot controller then removes its files.</summary>
    public Task Delete(VMBackgroundSnapshot snapshot, CancellationToken stop) =>
        _objects.DeleteIfThere(Resources.Snapshots, snapshot, null, stop);

    /// <summary>Whether a restore reads the snapshot, or a finalizer of somebody else holds it.</summary>
    public bool IsInUse(VMBackgroundSnapshot snapshot) =>
        snapshot.Metadata.Finalizers?.Any(f => f != Names.Finalizer) == true
        || shared.Restores.Items.Any(r =>
            r.Metadata.NamespaceProperty == snapshot.Metadata.NamespaceProperty
            && r.Spec.SnapshotName == snapshot.Metadata.Name
            && !RestorePhase.IsTerminal(r.Status?.Phase)
        );

    /// <summary>Patches the status; fails if the object has changed since we read it.</summary>
    public async Task PatchStatus(VMBackgroundSnapshotSchedule schedule, JsonObject status, CancellationToken stop) =>
        schedule.Status = (
            await _objects.PatchStatus(Resources.Schedules, shared.Schedules, schedule, status, stop).ConfigureAwait(false)
        ).Status;
}
