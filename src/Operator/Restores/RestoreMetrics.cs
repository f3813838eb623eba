using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;
using Prometheus;

namespace Bgsnap.Operator.Restores;

/// <summary>The operator's Prometheus metrics of restores.</summary>
internal static class RestoreMetrics
{
    private static readonly Counter Total = Metrics.CreateCounter(
        "bgsnap_vm_restores_total",
        "Restores that ended, by result (ready, failed) and reason.",
        "result",
        "reason"
    );

    private static readonly Histogram Duration = Metrics.CreateHistogram(
        "bgsnap_vm_restore_duration_seconds",
        "Time from the creation of a restore until its guest ran.",
        new HistogramConfiguration { Buckets = Histogram.ExponentialBuckets(1, 2, 13) }
    );

    /// <summary>Restores by phase.</summary>
    private static readonly Gauge Phases = Metrics.CreateGauge("bgsnap_vm_restores", "Restores by phase.", "phase");

    private static readonly Histogram Arrival = Metrics.CreateHistogram(
        "bgsnap_vm_restore_resident_duration_seconds",
        "Time from the creation of a restore until all of its guest's RAM had arrived.",
        new HistogramConfiguration { Buckets = Histogram.ExponentialBuckets(1, 2, 13) }
    );

    private static readonly Gauge Starved = Metrics.CreateGauge(
        "bgsnap_vm_restores_starved",
        "Restores whose guest runs but waits for RAM: the snapshot's volume, its carrier pod or the agent is unavailable."
    );

    /// <summary>Sets the gauges: restores by phase, and guests that wait for RAM.</summary>
    public static void Measure(IReadOnlyCollection<VMBackgroundRestore> restores)
    {
        ILookup<string, VMBackgroundRestore> byPhase = restores.ToLookup(r => r.Status?.Phase ?? RestorePhase.Pending);
        foreach (string phase in RestorePhase.All)
            Phases.WithLabels(phase).Set(byPhase[phase].Count());
        Starved.Set(
            byPhase[RestorePhase.Running]
                .Count(r => Conditions.Get(r.Status, ConditionTypes.Resident) is { Status: "False", Reason: not Reasons.RamArrives })
        );
    }

    /// <summary>
    /// Called after each save of a status. Counts once each that the guest runs, that all of its RAM has arrived, and that the restore
    /// failed.
    /// </summary>
    public static void Changed(VMBackgroundRestore restore, RestoreStatus? before, RestoreStatus status, DateTimeOffset now)
    {
        bool ran = Is(before, ConditionTypes.Ready),
            runs = Is(status, ConditionTypes.Ready),
            failed = status.Phase == RestorePhase.Failed;
        if ((runs && !ran) || (failed && before?.Phase != RestorePhase.Failed))
            Total.WithLabels(failed ? "failed" : "ready", Conditions.Get(status, ConditionTypes.Ready)?.Reason ?? "").Inc();
        if (restore.Metadata.CreationTimestamp is not { } created)
            return;
        double age = (now.UtcDateTime - created).TotalSeconds;
        if (runs && !ran)
            Duration.Observe(age);
        if (Is(status, ConditionTypes.Resident) && !Is(before, ConditionTypes.Resident))
            Arrival.Observe(age);
    }

    private static bool Is(RestoreStatus? status, string type) => Conditions.Get(status, type)?.Status == "True";
}
