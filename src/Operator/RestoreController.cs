using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Events;
using Bgsnap.Operator.Restores;
using Bgsnap.Operator.Shared;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Operator;

/// <summary>The controller of restores: the events that trigger a reconcile, and the workers that reconcile.</summary>
internal sealed class RestoreController : IDisposable
{
    private readonly SharedInformers _shared;
    private readonly WorkQueue _work;
    private readonly NodeQueue _queue;
    private readonly ReconcileLoop _loop;

    /// <summary>Connects its parts; <see cref="Run"/> starts them.</summary>
    public RestoreController(
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
        _queue = new NodeQueue(options.MaxConcurrentRestores, _work.Add);
        RestoreReconciler reconciler = RestoreReconciler.Wire(api, shared, _queue, events, options, clock, logs);
        _loop = new ReconcileLoop("restore", _work, reconciler, options.Workers, logs.CreateLogger<RestoreController>());
        Watch(shared, _work.Add);
    }

    /// <summary>Works until stopped.</summary>
    public Task Run(CancellationToken stop)
    {
        ResumeQueue(_queue, _shared.Tasks.Items, _shared.Restores.Items);
        return _loop.Run(stop);
    }

    /// <summary>Sets the gauges of restores.</summary>
    public void Measure() => RestoreMetrics.Measure([.. _shared.Restores.Items]);

    /// <inheritdoc/>
    public void Dispose() => _work.Dispose();

    /// <summary>Subscribes to every change that calls for a reconcile of a restore.</summary>
    internal static void Watch(SharedInformers shared, Action<ObjectKey> look)
    {
        shared.Restores.Changed += (key, _, _) => look(key);
        shared.OnOwned(VMBackgroundRestore.KubeKind, look);
        shared.Snapshots.Changed += (key, _, _) => OfSnapshot(key);
        shared.Snapshots.Learned += (key, _) => OfSnapshot(key);
        // The restore does not own the VM's pod, which outlives it; the pod's label holds the restore's uid.
        shared.Restored.Changed += (_, before, after) =>
        {
            if ((after ?? before)!.Metadata.Labels?.TryGetValue(Names.RestoreLabel, out string? uid) == true)
                Those(r => r.Metadata.Uid == uid);
        };

        void OfSnapshot(ObjectKey key) => Those(r => r.Metadata.NamespaceProperty == key.Namespace && r.Spec.SnapshotName == key.Name);

        void Those(Func<VMBackgroundRestore, bool> which)
        {
            foreach (VMBackgroundRestore r in shared.Restores.Items)
                if (!RestorePhase.IsTerminal(r.Status?.Phase) && which(r))
                    look(ObjectKey.Of(r));
        }
    }

    /// <summary>
    /// Fills the queue of a new leader: first the restores under way, then those that waited, oldest first. New ones come after them.
    /// </summary>
    internal static void ResumeQueue(NodeQueue queue, IEnumerable<SnapshotTask> tasks, IEnumerable<VMBackgroundRestore> restores)
    {
        foreach (
            SnapshotTask task in tasks.Where(t =>
                t.Spec.Action is TaskAction.Restore or TaskAction.RestoreDisks && !TaskPhase.IsTerminal(t.Status?.Phase)
            )
        )
            if (task.Metadata.OwnerReferences?.FirstOrDefault() is { } owner)
                queue.Resume(task.Spec.NodeName, new ObjectKey(task.Metadata.NamespaceProperty, owner.Name));
        foreach (
            VMBackgroundRestore r in restores
                .OrderBy(r => r.Metadata.CreationTimestamp)
                .ThenBy(r => r.Metadata.Name, StringComparer.Ordinal)
        )
        {
            if (r.Metadata.DeletionTimestamp is not null || r.Status is not { NodeName: { } node })
                continue;
            if (r.Status.Phase is RestorePhase.WritingDisks or RestorePhase.Starting or RestorePhase.Restoring)
                queue.Resume(node, ObjectKey.Of(r));
            else if (r.Status.Phase == RestorePhase.Queued)
                _ = queue.Enter(node, ObjectKey.Of(r), r.Metadata.CreationTimestamp ?? DateTime.MinValue);
        }
    }
}
