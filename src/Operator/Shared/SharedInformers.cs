using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using k8s;
using k8s.Models;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Operator.Shared;

/// <summary>The local copies that all controllers read: one watch for each kind.</summary>
internal sealed class SharedInformers(IApiClient api, ILogger log, TimeProvider clock)
{
    /// <summary>Snapshots.</summary>
    public Informer<VMBackgroundSnapshot> Snapshots { get; } = new(api, Resources.Snapshots, null, null, log, clock);

    /// <summary>Restores.</summary>
    public Informer<VMBackgroundRestore> Restores { get; } = new(api, Resources.Restores, null, null, log, clock);

    /// <summary>Schedules.</summary>
    public Informer<VMBackgroundSnapshotSchedule> Schedules { get; } = new(api, Resources.Schedules, null, null, log, clock);

    /// <summary>Tasks.</summary>
    public Informer<SnapshotTask> Tasks { get; } = new(api, Resources.Tasks, null, null, log, clock);

    /// <summary>Carrier pods.</summary>
    public Informer<PodSummary> Carriers { get; } = new(api, Resources.Pods, null, $"{Names.ManagedByLabel}={Names.ManagedBy}", log, clock);

    /// <summary>Pods that were created for restores: carriers and VMs.</summary>
    public Informer<PodSummary> Restored { get; } = new(api, Resources.Pods, null, Names.RestoreLabel, log, clock);

    /// <summary>The number of watches.</summary>
    public const int Count = 6;

    /// <summary>Completes when every informer has its first list.</summary>
    public Task Synced => Task.WhenAll(Snapshots.Synced, Restores.Synced, Schedules.Synced, Tasks.Synced, Carriers.Synced, Restored.Synced);

    /// <summary>Lists and watches until stopped.</summary>
    public Task Run(CancellationToken stop) =>
        Task.WhenAll(Snapshots.Run(stop), Restores.Run(stop), Schedules.Run(stop), Tasks.Run(stop), Carriers.Run(stop), Restored.Run(stop));

    /// <summary>Calls back with the owner of each task or carrier that changes, if the owner is of this kind.</summary>
    public void OnOwned(string kind, Action<ObjectKey> call)
    {
        Tasks.Changed += (_, before, after) => Notify((after ?? before)!);
        Carriers.Changed += (_, before, after) => Notify((after ?? before)!);

        void Notify(IKubernetesObject<V1ObjectMeta> item)
        {
            if (item.Metadata.OwnerReferences?.FirstOrDefault(o => o.Kind == kind) is { } owner)
                call(new ObjectKey(item.Metadata.NamespaceProperty, owner.Name));
        }
    }
}
