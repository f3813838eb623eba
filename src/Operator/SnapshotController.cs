using Bgsnap.Crds.Client;
using Bgsnap.Crds.Controller;
using Bgsnap.Crds.Hosting;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Events;
using Bgsnap.Operator.Snapshots;
using k8s;
using k8s.Models;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Operator;

/// <summary>Runs the snapshot controller while this replica leads: informers, queue, workers, the sweep of orphans.</summary>
internal sealed class SnapshotController(
    IApiClient api, Lazy<LeaderGate>? gate, OperatorOptions options, Health health, TimeProvider clock, IHostApplicationLifetime lifetime, ILoggerFactory logs) : BackgroundService
{
    private static readonly TimeSpan SweepEvery = TimeSpan.FromMinutes(1);
    private readonly ILogger<SnapshotController> _log = logs.CreateLogger<SnapshotController>();

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        await Task.Yield();
        // A replica that waits for the lease is ready to take over.
        health.NotReady = null;
        if (gate is null)
        {
            await Lead(stoppingToken).ConfigureAwait(false);
            return;
        }
        if (await gate.Value.Run(Lead, stoppingToken).ConfigureAwait(false))
        {
            _log.LogError("the lease was lost: another replica leads now, this one ends");
            Environment.ExitCode = 1;
            lifetime.StopApplication();
        }
    }

    private async Task Lead(CancellationToken stop)
    {
        Informer<VMBackgroundSnapshot> snapshots = new(api, Resources.Snapshots, null, null, _log, clock);
        Informer<SnapshotTask> tasks = new(api, Resources.Tasks, null, null, _log, clock);
        Informer<PodSummary> carriers = new(api, Resources.Pods, null, $"{Names.ManagedByLabel}={Names.ManagedBy}", _log, clock);
        using WorkQueue work = new(clock);
        NodeQueue queue = new(options.MaxConcurrentCaptures, work.Add);
        SnapshotStore store = new(api, snapshots, tasks, carriers, options);
        EventRecorder events = new(api, clock, logs.CreateLogger<EventRecorder>());
        SnapshotRemoval removal = new(store, queue, events, options, clock, logs.CreateLogger<SnapshotRemoval>());
        SnapshotReconciler reconciler = new(store, queue, removal, events, options, clock, logs.CreateLogger<SnapshotReconciler>());
        Orphans orphans = new(api, snapshots, tasks, carriers, logs.CreateLogger<Orphans>());

        snapshots.Changed += (key, _, _) => work.Add(key);
        tasks.Changed += (_, before, after) => Owner((after ?? before)!, work);
        carriers.Changed += (_, before, after) => Owner((after ?? before)!, work);
        Task watching = Task.WhenAll(snapshots.Run(stop), tasks.Run(stop), carriers.Run(stop));
        await Task.WhenAny(Task.WhenAll(snapshots.Synced, tasks.Synced, carriers.Synced), watching).ConfigureAwait(false);

        ResumeQueue(queue, tasks.Items, snapshots.Items);
        await Task.WhenAll(
            watching,
            new ReconcileLoop("snapshot", work, reconciler, options.Workers, _log).Run(stop),
            Sweep(orphans, snapshots, queue, stop)).ConfigureAwait(false);
    }

    /// <summary>Whoever was at work when this leader began keeps its place, and whoever waited its turn, before anyone else is let in.</summary>
    internal static void ResumeQueue(NodeQueue queue, IEnumerable<SnapshotTask> tasks, IEnumerable<VMBackgroundSnapshot> snapshots)
    {
        foreach (SnapshotTask task in tasks.Where(t => t.Spec.Action == TaskAction.Capture && !TaskPhase.IsTerminal(t.Status?.Phase)))
            if (task.Metadata.OwnerReferences?.FirstOrDefault() is { } owner)
                queue.Resume(task.Spec.NodeName, new ObjectKey(task.Metadata.NamespaceProperty, owner.Name));
        foreach (VMBackgroundSnapshot s in snapshots.OrderBy(s => s.Metadata.CreationTimestamp).ThenBy(s => s.Metadata.Name, StringComparer.Ordinal))
            if (s.Metadata.DeletionTimestamp is null && s.Status is { Phase: SnapshotPhase.Queued or SnapshotPhase.Preparing, NodeName: { } node })
                _ = queue.Enter(node, ObjectKey.Of(s), s.Metadata.CreationTimestamp ?? DateTime.MinValue);
    }

    private static void Owner(IKubernetesObject<V1ObjectMeta> item, WorkQueue work)
    {
        if (item.Metadata.OwnerReferences?.FirstOrDefault(o => o.Kind == VMBackgroundSnapshot.KubeKind) is { } owner)
            work.Add(new ObjectKey(item.Metadata.NamespaceProperty, owner.Name));
    }

    private async Task Sweep(Orphans orphans, Informer<VMBackgroundSnapshot> snapshots, NodeQueue queue, CancellationToken stop)
    {
        HashSet<string> nodes = [];
        while (!stop.IsCancellationRequested)
        {
            try
            {
                await orphans.Sweep(stop).ConfigureAwait(false);
            }
            catch (Exception e) when (e is ApiException or HttpRequestException)
            {
                _log.LogInformation("the sweep of orphans was cut short: {Why}", e.Message);
            }
            catch (OperationCanceledException)
            {
                return;
            }
            string[] phases = [SnapshotPhase.Pending, SnapshotPhase.Queued, SnapshotPhase.Preparing, SnapshotPhase.Capturing, SnapshotPhase.Ready, SnapshotPhase.Failed, SnapshotPhase.Deleting];
            ILookup<string, VMBackgroundSnapshot> byPhase = snapshots.Items.ToLookup(s => s.Status?.Phase ?? SnapshotPhase.Pending);
            foreach (string phase in phases) OperatorMetrics.Phases.WithLabels(phase).Set(byPhase[phase].Count());
            IReadOnlyDictionary<string, int> waiting = queue.WaitingByNode();
            nodes.UnionWith(waiting.Keys);
            foreach (string node in nodes) OperatorMetrics.Queued.WithLabels(node).Set(waiting.GetValueOrDefault(node));
            await Task.Delay(SweepEvery, clock, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }
}
