using System.Text.Json.Nodes;
using Bgsnap.Crds.Client;
using Bgsnap.Crds.Controller;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;

namespace Bgsnap.Operator.Schedules;

/// <summary>The objects that a schedule is about.</summary>
internal sealed class ScheduleStore(IApiClient api, SharedInformers shared)
{
    private readonly Objects _objects = new(api);

    /// <summary>The schedule, or null.</summary>
    public VMBackgroundSnapshotSchedule? Find(ObjectKey key) => shared.Schedules.Find(key);

    /// <summary>Its snapshots.</summary>
    public List<VMBackgroundSnapshot> SnapshotsOf(ObjectKey key) =>
        [.. shared.Snapshots.Items.Where(s => SnapshotOf.IsOf(s, key.Namespace, key.Name))];

    /// <summary>A snapshot by its name as our copy has it, or null.</summary>
    public VMBackgroundSnapshot? FindSnapshot(string ns, string name) => shared.Snapshots.Find(new ObjectKey(ns, name));

    /// <summary>
    /// Makes a snapshot, or finds what has its name. Our copy learns of it by the watch alone, and so does who is to capture it.
    /// </summary>
    public Task<VMBackgroundSnapshot> MakeSnapshot(VMBackgroundSnapshot snapshot, CancellationToken stop) =>
        _objects.CreateOrGet(Resources.Snapshots, snapshot, stop);

    /// <summary>Deletes a snapshot; its finalizer sees to the files.</summary>
    public Task Delete(VMBackgroundSnapshot snapshot, CancellationToken stop) =>
        _objects.DeleteIfThere(Resources.Snapshots, snapshot, null, stop);

    /// <summary>Whether a restore reads it, or somebody else holds it by a finalizer.</summary>
    public bool IsInUse(VMBackgroundSnapshot snapshot) =>
        snapshot.Metadata.Finalizers?.Any(f => f != Names.Finalizer) == true
        || shared.Restores.Items.Any(r =>
            r.Metadata.NamespaceProperty == snapshot.Metadata.NamespaceProperty
            && r.Spec.SnapshotName == snapshot.Metadata.Name
            && !RestorePhase.IsTerminal(r.Status?.Phase)
        );

    /// <summary>Changes the status, based on the version we have seen.</summary>
    public async Task PatchStatus(VMBackgroundSnapshotSchedule schedule, JsonObject status, CancellationToken stop) =>
        schedule.Status = (
            await _objects.PatchStatus(Resources.Schedules, shared.Schedules, schedule, status, stop).ConfigureAwait(false)
        ).Status;
}
