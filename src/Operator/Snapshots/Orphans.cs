using Bgsnap.Crds.Client;
using Bgsnap.Crds.Controller;
using Bgsnap.Crds.V1Alpha1;
using k8s;
using k8s.Models;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Operator.Snapshots;

/// <summary>
/// Removes tasks and carriers whose snapshot is gone or does not need them. Owner references do the same by the garbage collector;
/// this catches what a crash left of a snapshot that still exists.
/// </summary>
internal sealed class Orphans(
    IApiClient api, Informer<VMBackgroundSnapshot> snapshots, Informer<SnapshotTask> tasks, Informer<PodSummary> carriers, ILogger<Orphans> log)
{
    /// <summary>Looks through all of them once.</summary>
    /// <returns>How many were removed.</returns>
    public async Task<int> Sweep(CancellationToken stop)
    {
        Dictionary<string, VMBackgroundSnapshot> byUid = snapshots.Items.ToDictionary(s => s.Metadata.Uid);
        int removed = 0;
        foreach (SnapshotTask task in tasks.Items)
            if (IsOrphan(task, byUid)) removed += await Remove(Resources.Tasks, task, stop).ConfigureAwait(false);
        foreach (PodSummary carrier in carriers.Items)
            if (IsOrphan(carrier, byUid)) removed += await Remove(Resources.Pods, carrier, stop).ConfigureAwait(false);
        return removed;
    }

    private static bool IsOrphan(IKubernetesObject<V1ObjectMeta> item, Dictionary<string, VMBackgroundSnapshot> byUid)
    {
        if (item.Metadata.DeletionTimestamp is not null || item.Metadata.Labels?.TryGetValue(Names.SnapshotLabel, out string? uid) != true) return false;
        return !byUid.TryGetValue(uid!, out VMBackgroundSnapshot? owner)
            || (owner.Metadata.DeletionTimestamp is null && SnapshotPhase.IsTerminal(owner.Status?.Phase));
    }

    private async Task<int> Remove<T>(ResourceType<T> type, T item, CancellationToken stop) where T : class, IKubernetesObject<V1ObjectMeta>
    {
        try
        {
            await api.Delete(type, item.Metadata.NamespaceProperty, item.Metadata.Name, item.Metadata.Uid, null, stop).ConfigureAwait(false);
            log.LogInformation("removed {Kind} {Namespace}/{Name}, whose snapshot does not need it", item.Kind, item.Metadata.NamespaceProperty, item.Metadata.Name);
            return 1;
        }
        catch (ApiException e) when (e.IsNotFound || e.IsConflict)
        {
            return 0;
        }
    }
}
