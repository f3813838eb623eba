using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Prometheus;

namespace Bgsnap.Operator.Snapshots;

/// <summary>The operator's Prometheus metrics of snapshots.</summary>
internal static class SnapshotMetrics
{
    private static readonly Counter Total = Metrics.CreateCounter(
        "bgsnap_snapshots_total",
        "Snapshots that ended, by result (ready, failed) and reason.",
        "result",
        "reason"
    );

    private static readonly Histogram Duration = Metrics.CreateHistogram(
        "bgsnap_snapshot_duration_seconds",
        "Time from the creation of a snapshot until it was Ready.",
        new HistogramConfiguration { Buckets = Histogram.ExponentialBuckets(1, 2, 13) }
    );

    /// <summary>Snapshots that wait for a free slot on their node.</summary>
    public static readonly Gauge Queued = Metrics.CreateGauge(
        "bgsnap_queued_snapshots",
        "Snapshots that wait for a free slot on their node.",
        "node"
    );

    /// <summary>Snapshots by phase.</summary>
    public static readonly Gauge Phases = Metrics.CreateGauge("bgsnap_snapshots", "Snapshots by phase.", "phase");

    /// <summary>Counts a snapshot that became Ready or Failed.</summary>
    public static void Ended(VMBackgroundSnapshot snapshot, SnapshotStatus status, DateTimeOffset now)
    {
        bool ready = status.Phase == SnapshotPhase.Ready;
        Total.WithLabels(ready ? "ready" : "failed", Conditions.Get(status, ConditionTypes.Ready)?.Reason ?? "").Inc();
        if (ready && snapshot.Metadata.CreationTimestamp is { } created)
            Duration.Observe((now.UtcDateTime - created).TotalSeconds);
    }
}
