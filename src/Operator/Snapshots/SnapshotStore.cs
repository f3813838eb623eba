using System.Text.Json.Nodes;
using Bgsnap.Crds.Client;
using Bgsnap.Crds.Controller;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using k8s;
using k8s.Models;

namespace Bgsnap.Operator.Snapshots;

/// <summary>
/// The objects that a snapshot is about. Reads come from the informers' copies where a stale one does no harm; whatever is about to be
/// made is made by a name that can exist only once, so that a stale copy leads to AlreadyExists and not to two of it.
/// </summary>
internal sealed class SnapshotStore(
    IApiClient api, Informer<VMBackgroundSnapshot> snapshots, Informer<SnapshotTask> tasks, Informer<PodSummary> carriers, OperatorOptions options)
{
    /// <summary>The snapshot, or null.</summary>
    public VMBackgroundSnapshot? Find(ObjectKey key) => snapshots.Find(key);

    /// <summary>Adds our finalizer.</summary>
    public async Task AddFinalizer(VMBackgroundSnapshot snapshot, CancellationToken stop) =>
        await PatchFinalizers(snapshot, [.. snapshot.Metadata.Finalizers ?? [], Names.Finalizer], stop).ConfigureAwait(false);

    /// <summary>Removes our finalizer; the object goes.</summary>
    public async Task RemoveFinalizer(VMBackgroundSnapshot snapshot, CancellationToken stop)
    {
        try
        {
            await PatchFinalizers(snapshot, (snapshot.Metadata.Finalizers ?? []).Where(f => f != Names.Finalizer), stop).ConfigureAwait(false);
        }
        catch (ApiException e) when (e.IsNotFound)
        {
            // It is gone already.
        }
    }

    /// <summary>Changes the status, based on the version we have seen.</summary>
    public async Task PatchStatus(VMBackgroundSnapshot snapshot, JsonObject status, CancellationToken stop)
    {
        JsonObject patch = new() { ["metadata"] = Version(snapshot), ["status"] = status };
        VMBackgroundSnapshot after = await api.MergePatch(Resources.Snapshots, snapshot.Metadata.NamespaceProperty, snapshot.Metadata.Name, "status", patch, stop).ConfigureAwait(false);
        snapshots.Learn(after);
        (snapshot.Metadata.ResourceVersion, snapshot.Status) = (after.Metadata.ResourceVersion, after.Status);
    }

    /// <summary>The snapshot's task of one kind, or null.</summary>
    public async Task<SnapshotTask?> FindTask(VMBackgroundSnapshot snapshot, string action, CancellationToken stop)
    {
        SnapshotTask? task = tasks.Find(new ObjectKey(snapshot.Metadata.NamespaceProperty, Naming.Task(snapshot, action)));
        // Once a task may have been made, its absence from our copy is not believed.
        if (task is null && snapshot.Status?.Directory is not null)
            task = await GetOrNull(Resources.Tasks, snapshot.Metadata.NamespaceProperty, Naming.Task(snapshot, action), stop).ConfigureAwait(false);
        return task;
    }

    /// <summary>Makes a task, or finds it made.</summary>
    public async Task<SnapshotTask> MakeTask(VMBackgroundSnapshot snapshot, SnapshotTask task, CancellationToken stop)
    {
        SnapshotTask made = await CreateOrGet(Resources.Tasks, task, stop).ConfigureAwait(false);
        tasks.Learn(made);
        return made;
    }

    /// <summary>Tells the agent to give up.</summary>
    public async Task Cancel(SnapshotTask task, CancellationToken stop) => tasks.Learn(await api.MergePatch(
        Resources.Tasks, task.Metadata.NamespaceProperty, task.Metadata.Name, null, new JsonObject { ["spec"] = new JsonObject { ["cancel"] = true } }, stop).ConfigureAwait(false));

    /// <summary>The carrier pod as far as it is known, or null; one that is going away is none.</summary>
    public PodSummary? FindCarrier(VMBackgroundSnapshot snapshot, string action) =>
        carriers.Find(new ObjectKey(snapshot.Metadata.NamespaceProperty, Naming.Carrier(snapshot, action))) is { Metadata.DeletionTimestamp: null } known ? known : null;

    /// <summary>The carrier pod, made when it is not there.</summary>
    public async Task<PodSummary> FindOrMakeCarrier(VMBackgroundSnapshot snapshot, string action, string claim, string? node, CancellationToken stop)
    {
        ObjectKey key = new(snapshot.Metadata.NamespaceProperty, Naming.Carrier(snapshot, action));
        if (FindCarrier(snapshot, action) is { } known) return known;
        V1Pod pod = CarrierPod.Build(snapshot, action, claim, node, options);
        try
        {
            await api.Create(CoreResources.Pods, pod, stop).ConfigureAwait(false);
        }
        catch (ApiException e) when (e.IsAlreadyExists)
        {
            // Made before a crash, or our copy is behind.
        }
        PodSummary made = await api.Get(Resources.Pods, key.Namespace, key.Name, stop).ConfigureAwait(false);
        // One that is going away cannot hold the claim for a capture; when it is gone another is made.
        if (made.Metadata.DeletionTimestamp is not null)
            throw CarrierState.Wait(CarrierState.Starting, $"claim {claim} is being brought{(node is null ? " to a node" : " to node " + node)}: pod {key.Name} of an earlier try is ending");
        carriers.Learn(made);
        return made;
    }

    /// <summary>Removes a carrier that has ended, so that another is made; not at once after its creation, lest that go on without pause.</summary>
    public async Task RemoveEnded(PodSummary carrier, DateTimeOffset now, CancellationToken stop)
    {
        if (now - (carrier.Metadata.CreationTimestamp ?? DateTime.MinValue) >= TimeSpan.FromSeconds(15))
            await DeleteIfThere(Resources.Pods, carrier, null, stop).ConfigureAwait(false);
    }

    /// <summary>Removes a task and its carrier; their absence is fine.</summary>
    public async Task RemoveHelpers(VMBackgroundSnapshot snapshot, string action, CancellationToken stop)
    {
        string ns = snapshot.Metadata.NamespaceProperty;
        if (tasks.Find(new ObjectKey(ns, Naming.Task(snapshot, action))) is { Metadata.DeletionTimestamp: null } task)
            await DeleteIfThere(Resources.Tasks, task, null, stop).ConfigureAwait(false);
        if (carriers.Find(new ObjectKey(ns, Naming.Carrier(snapshot, action))) is { Metadata.DeletionTimestamp: null } carrier)
            await DeleteIfThere(Resources.Pods, carrier, 1, stop).ConfigureAwait(false);
    }

    /// <summary>A pod, or null.</summary>
    public Task<PodSummary?> FindPod(string ns, string name, CancellationToken stop) => GetOrNull(Resources.Pods, ns, name, stop);

    /// <summary>A claim, or null.</summary>
    public Task<V1PersistentVolumeClaim?> FindClaim(string ns, string name, CancellationToken stop) => GetOrNull(CoreResources.Claims, ns, name, stop);

    /// <summary>Makes a claim, or finds it made.</summary>
    public Task<V1PersistentVolumeClaim> MakeClaim(V1PersistentVolumeClaim claim, CancellationToken stop) => CreateOrGet(CoreResources.Claims, claim, stop);

    /// <summary>The size of a claim for a VM; see <see cref="ClaimOf.Size"/>.</summary>
    public async Task<string> SizeFor(VMBackgroundSnapshot snapshot, SourceVm vm, CancellationToken stop)
    {
        string ns = snapshot.Metadata.NamespaceProperty;
        PodSummary pod = await api.Get(Resources.Pods, ns, vm.PodName, stop).ConfigureAwait(false);
        List<string> disks = [];
        foreach (string name in (pod.Spec?.Volumes ?? []).Select(v => v.PersistentVolumeClaim?.ClaimName).OfType<string>().Distinct())
        {
            V1PersistentVolumeClaim? disk = await FindClaim(ns, name, stop).ConfigureAwait(false);
            if (disk?.Status?.Capacity?.TryGetValue("storage", out ResourceQuantity? capacity) == true) disks.Add(capacity!.ToString());
            else if (disk?.Spec?.Resources?.Requests?.TryGetValue("storage", out ResourceQuantity? request) == true) disks.Add(request!.ToString());
        }
        return ClaimOf.Size(pod, vm.Container, disks);
    }

    private async Task PatchFinalizers(VMBackgroundSnapshot snapshot, IEnumerable<string> finalizers, CancellationToken stop)
    {
        JsonObject metadata = Version(snapshot);
        metadata["finalizers"] = new JsonArray([.. finalizers.Select(f => (JsonNode)f)]);
        VMBackgroundSnapshot after = await api.MergePatch(
            Resources.Snapshots, snapshot.Metadata.NamespaceProperty, snapshot.Metadata.Name, null, new JsonObject { ["metadata"] = metadata }, stop).ConfigureAwait(false);
        snapshots.Learn(after);
        snapshot.Metadata.ResourceVersion = after.Metadata.ResourceVersion;
        snapshot.Metadata.Finalizers = after.Metadata.Finalizers;
    }

    private static JsonObject Version(VMBackgroundSnapshot snapshot) => new() { ["resourceVersion"] = snapshot.Metadata.ResourceVersion };

    private async Task<T?> GetOrNull<T>(ResourceType<T> type, string ns, string name, CancellationToken stop) where T : class, IKubernetesObject<V1ObjectMeta>
    {
        try
        {
            return await api.Get(type, ns, name, stop).ConfigureAwait(false);
        }
        catch (ApiException e) when (e.IsNotFound)
        {
            return null;
        }
    }

    private async Task<T> CreateOrGet<T>(ResourceType<T> type, T item, CancellationToken stop) where T : class, IKubernetesObject<V1ObjectMeta>
    {
        try
        {
            return await api.Create(type, item, stop).ConfigureAwait(false);
        }
        catch (ApiException e) when (e.IsAlreadyExists)
        {
            return await api.Get(type, item.Metadata.NamespaceProperty, item.Metadata.Name, stop).ConfigureAwait(false);
        }
    }

    private async Task DeleteIfThere<T>(ResourceType<T> type, T item, int? grace, CancellationToken stop) where T : class, IKubernetesObject<V1ObjectMeta>
    {
        try
        {
            await api.Delete(type, item.Metadata.NamespaceProperty, item.Metadata.Name, item.Metadata.Uid, grace, stop).ConfigureAwait(false);
        }
        catch (ApiException e) when (e.IsNotFound || e.IsConflict)
        {
            // Gone, or another of that name.
        }
    }
}
