using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using k8s;
using k8s.Models;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Operator.Shared;

/// <summary>
/// Removes tasks and carriers whose snapshot or restore is gone or no longer needs them. The garbage collector removes those whose owner is
/// gone; this sweep also finds what a crash left behind for an owner that still exists. It never touches the VM of a restore: that VM has
/// no owner.
/// </summary>
internal sealed class Orphans(IApiClient api, SharedInformers shared, ILogger<Orphans> log)
{
    /// <summary>Sweeps once.</summary>
    /// <returns>The number of objects removed.</returns>
    public async Task<int> Sweep(CancellationToken stop)
    {
        // Copied before the owners are listed, so that a task or carrier created meanwhile does not look like an orphan.
        List<SnapshotTask> tasks = [.. shared.Tasks.Items];
        List<PodSummary> carriers = [.. shared.Carriers.Items];
        HashSet<string> needy =
        [
            .. shared
                .Snapshots.Items.Where(s => s.Metadata.DeletionTimestamp is not null || !SnapshotPhase.IsTerminal(s.Status?.Phase))
                .Select(s => s.Metadata.Uid),
            .. shared
                .Restores.Items.Where(r => r.Metadata.DeletionTimestamp is not null || !RestorePhase.IsTerminal(r.Status?.Phase))
                .Select(r => r.Metadata.Uid),
        ];
        int removed = 0;
        foreach (SnapshotTask task in tasks)
            if (IsOrphan(task, needy))
                removed += await Remove(Resources.Tasks, task, stop).ConfigureAwait(false);
        foreach (PodSummary carrier in carriers)
            if (IsOrphan(carrier, needy))
                removed += await Remove(Resources.Pods, carrier, stop).ConfigureAwait(false);
        return removed;
    }

    private static bool IsOrphan(IKubernetesObject<V1ObjectMeta> item, HashSet<string> needy) =>
        item.Metadata.DeletionTimestamp is null && OwnerOf(item) is { } uid && !needy.Contains(uid);

    private static string? OwnerOf(IKubernetesObject<V1ObjectMeta> item)
    {
        if (item.Metadata.Labels?.TryGetValue(Names.SnapshotLabel, out string? snapshot) == true)
            return snapshot;
        return item.Metadata.OwnerReferences?.FirstOrDefault(o => o.Kind == VMBackgroundRestore.KubeKind)?.Uid;
    }

    private async Task<int> Remove<T>(ResourceType<T> type, T item, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        try
        {
            await api.Delete(type, item.Metadata.NamespaceProperty, item.Metadata.Name, item.Metadata.Uid, null, stop)
                .ConfigureAwait(false);
            log.LogInformation(
                "removed orphaned {Kind} {Namespace}/{Name}",
                item.Kind,
                item.Metadata.NamespaceProperty,
                item.Metadata.Name
            );
            return 1;
        }
        catch (ApiException e) when (e.IsNotFound || e.IsConflict)
        {
            return 0;
        }
    }
}
