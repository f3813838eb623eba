using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Events;
using Bgsnap.Operator.Schedules;
using Bgsnap.Operator.Shared;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Operator;

/// <summary>The controller of schedules: the events that trigger a reconcile, and the workers that reconcile.</summary>
internal sealed class ScheduleController : IDisposable
{
    private const int Workers = 2;
    private readonly SharedInformers _shared;
    private readonly WorkQueue _work;
    private readonly ReconcileLoop _loop;

    /// <summary>Connects its parts; <see cref="Run"/> starts them.</summary>
    public ScheduleController(IApiClient api, SharedInformers shared, EventRecorder events, TimeProvider clock, ILoggerFactory logs)
    {
        _shared = shared;
        _work = new WorkQueue(clock);
        ScheduleReconciler reconciler = new(new ScheduleStore(api, shared), events, clock, logs.CreateLogger<ScheduleReconciler>());
        _loop = new ReconcileLoop("schedule", _work, reconciler, Workers, logs.CreateLogger<ScheduleController>());
        Watch(shared, _work.Add);
    }

    /// <summary>Works until stopped.</summary>
    public Task Run(CancellationToken stop) => _loop.Run(stop);

    /// <summary>Sets the gauge of schedules by phase.</summary>
    public void Measure()
    {
        ILookup<string, VMBackgroundSnapshotSchedule> byPhase = _shared.Schedules.Items.ToLookup(s =>
            s.Status?.Phase ?? SchedulePhase.Scheduled
        );
        foreach (string phase in new[] { SchedulePhase.Scheduled, SchedulePhase.Suspended, SchedulePhase.Invalid })
            ScheduleMetrics.Phases.WithLabels(phase).Set(byPhase[phase].Count());
    }

    /// <inheritdoc/>
    public void Dispose() => _work.Dispose();

    /// <summary>Subscribes to every change that calls for a reconcile of a schedule.</summary>
    internal static void Watch(SharedInformers shared, Action<ObjectKey> look)
    {
        shared.Schedules.Changed += (key, _, _) => look(key);
        // Of a snapshot's changes, only those that affect the counts and the retention matter.
        shared.Snapshots.Changed += (key, before, after) =>
        {
            if (
                before?.Status?.Phase == after?.Status?.Phase
                && before?.Metadata.DeletionTimestamp == after?.Metadata.DeletionTimestamp
                && before is not null
                && after is not null
                && ScheduledSnapshot.ScheduleOf(before) == ScheduledSnapshot.ScheduleOf(after)
            )
                return;
            if (before is not null && ScheduledSnapshot.ScheduleOf(before) is { } left)
                look(new ObjectKey(key.Namespace, left));
            if (after is not null && ScheduledSnapshot.ScheduleOf(after) is { } of)
                look(new ObjectKey(key.Namespace, of));
        };
        // The snapshot's end is written by this operator itself, and Changed does not report our own writes.
        shared.Snapshots.Learned += (key, after) =>
        {
            if (SnapshotPhase.IsTerminal(after.Status?.Phase) && ScheduledSnapshot.ScheduleOf(after) is { } of)
                look(new ObjectKey(key.Namespace, of));
        };
    }
}
