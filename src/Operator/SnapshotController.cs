using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Events;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.Snapshots;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Operator;

/// <summary>The controller of snapshots: the events that trigger a reconcile, and the workers that reconcile.</summary>
internal sealed class SnapshotController : IDisposable
{
    private readonly SharedInformers _shared;
    private readonly WorkQueue _work;
    private readonly NodeQueue _queue;
    private readonly ReconcileLoop _loop;
    private readonly HashSet<string> _nodes = [];

    /// <summary>Connects its parts; <see cref="Run"/> starts them.</summary>
    public SnapshotController(
        IApiClient api,
        SharedInformers shared,
        EventRecorder events,
        OperatorOptions options,
        TimeProvider clock,
        ILoggerFactory logs
    )
    {
        _shared = shared;
        _work = new WorkQueue(clock);
        _queue = new NodeQueue(options.MaxConcurrentCaptures, _work.Add);
        SnapshotStore store = new(api, shared.Snapshots, shared.Tasks, shared.Carriers, options);
        SnapshotRemoval removal = new(store, _queue, events, options, clock, logs.CreateLogger<SnapshotRemoval>());
        SnapshotReconciler reconciler = new(store, _queue, removal, events, options, clock, logs.CreateLogger<SnapshotReconciler>());
        _loop = new ReconcileLoop("snapshot", _work, reconciler, options.Workers, logs.CreateLogger<SnapshotController>());
        Watch(shared, _work.Add);
    }

    /// <summary>Works until stopped.</summary>
    public Task Run(CancellationToken stop)
    {
        ResumeQueue(_queue, _shared.Tasks.Items, _shared.Snapshots.Items);
        return _loop.Run(stop);
    }

    /// <summary>Sets the gauges of snapshots by phase, and of those that wait by node.</summary>
    public void Measure()
    {
        string[] phases =
        [
            SnapshotPhase.Pending,
            SnapshotPhase.Queued,
            SnapshotPhase.Preparing,
            SnapshotPhase.Capturing,
            SnapshotPhase.Ready,
            SnapshotPhase.Failed,
            SnapshotPhase.Deleting,
        ];
        ILookup<string, VMBackgroundSnapshot> byPhase = _shared.Snapshots.Items.ToLookup(s => s.Status?.Phase ?? SnapshotPhase.Pending);
        foreach (string phase in phases)
            SnapshotMetrics.Phases.WithLabels(phase).Set(byPhase[phase].Count());
        IReadOnlyDictionary<string, int> waiting = _queue.WaitingByNode();
        _nodes.UnionWith(waiting.Keys);
        foreach (string node in _nodes)
            SnapshotMetrics.Queued.WithLabels(node).Set(waiting.GetValueOrDefault(node));
    }

    /// <inheritdoc/>
    public void Dispose() => _work.Dispose();

    /// <summary>Subscribes to every change that calls for a reconcile of a snapshot.</summary>
    internal static void Watch(SharedInformers shared, Action<ObjectKey> look)
    {
        shared.Snapshots.Changed += (key, _, _) => look(key);
        shared.OnOwned(VMBackgroundSnapshot.KubeKind, look);
        // A deleted snapshot waits for the restores that read it.
        shared.Restores.Changed += (key, before, after) =>
        {
            if (after is null)
                look(key with { Name = before!.Spec.SnapshotName });
            else
                Ended(key, after);
        };
        shared.Restores.Learned += Ended;

        void Ended(ObjectKey key, VMBackgroundRestore restore)
        {
            if (RestorePhase.IsTerminal(restore.Status?.Phase))
                look(key with { Name = restore.Spec.SnapshotName });
        }
    }

    /// <summary>
    /// Fills the queue of a new leader: first the captures under way, then the snapshots that waited, oldest first. New ones come after
    /// them.
    /// </summary>
    internal static void ResumeQueue(NodeQueue queue, IEnumerable<SnapshotTask> tasks, IEnumerable<VMBackgroundSnapshot> snapshots)
    {
        foreach (SnapshotTask task in tasks.Where(t => t.Spec.Action == TaskAction.Capture && !TaskPhase.IsTerminal(t.Status?.Phase)))
            if (task.Metadata.OwnerReferences?.FirstOrDefault() is { } owner)
                queue.Resume(task.Spec.NodeName, new ObjectKey(task.Metadata.NamespaceProperty, owner.Name));
        foreach (
            VMBackgroundSnapshot s in snapshots
                .OrderBy(s => s.Metadata.CreationTimestamp)
                .ThenBy(s => s.Metadata.Name, StringComparer.Ordinal)
        )
            if (
                s.Metadata.DeletionTimestamp is null
                && s.Status is { Phase: SnapshotPhase.Queued or SnapshotPhase.Preparing, NodeName: { } node }
            )
                _ = queue.Enter(node, ObjectKey.Of(s), s.Metadata.CreationTimestamp ?? DateTime.MinValue);
    }
}
