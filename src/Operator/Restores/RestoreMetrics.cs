using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Snapshots;
using Prometheus;

namespace Bgsnap.Operator.Restores;

/// <summary>What the operator tells Prometheus of restores.</summary>
internal static class RestoreMetrics
{
    private static readonly Counter Total = Metrics.CreateCounter(
        "bgsnap_vm_restores_total", "Restores that ended, by result (ready, failed) and reason.", "result", "reason");

    private static readonly Histogram Duration = Metrics.CreateHistogram(
        "bgsnap_vm_restore_duration_seconds", "Time from the creation of a restore until its guest ran.",
        new HistogramConfiguration { Buckets = Histogram.ExponentialBuckets(1, 2, 13) });

    /// <summary>Restores by phase.</summary>
    public static readonly Gauge Phases = Metrics.CreateGauge("bgsnap_vm_restores", "Restores by phase.", "phase");

    /// <summary>A restore became Ready or Failed.</summary>
    public static void Ended(VMBackgroundRestore restore, RestoreStatus status, DateTimeOffset now)
    {
        bool ready = status.Phase == RestorePhase.Ready;
        Total.WithLabels(ready ? "ready" : "failed", Conditions.Get(status, ConditionTypes.Ready)?.Reason ?? "").Inc();
        if (ready && restore.Metadata.CreationTimestamp is { } created) Duration.Observe((now.UtcDateTime - created).TotalSeconds);
    }
}
