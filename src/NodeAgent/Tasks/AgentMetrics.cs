using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Vocabulary;
using Prometheus;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>The agent's Prometheus metrics.</summary>
internal static class AgentMetrics
{
    private static readonly Counter Captures = Metrics.CreateCounter(
        "bgsnap_captures_total",
        "Captures that ended, by result (succeeded, failed), reason and engine.",
        "result",
        "reason",
        "engine"
    );

    private static readonly Gauge Running = Metrics.CreateGauge("bgsnap_captures_running", "Captures under way.");
    private static readonly Counter Kills = Metrics.CreateCounter(
        "bgsnap_watchdog_kills_total",
        "Capturing processes that died or had to be killed."
    );
    private static readonly Histogram Downtime = Seconds("bgsnap_capture_downtime_seconds", "Length of the stop window.", 0.0001, 16);
    private static readonly Histogram Window = Seconds(
        "bgsnap_capture_protection_window_seconds",
        "Time in which guest memory was write-protected.",
        0.01,
        16
    );
    private static readonly Histogram Total = Seconds("bgsnap_capture_duration_seconds", "Time of a whole capture.", 0.05, 16);
    private static readonly Histogram FaultLatency = Seconds(
        "bgsnap_capture_fault_latency_seconds",
        "99th percentile of the time a guest write had to wait, one observation a capture.",
        0.00001,
        18
    );

    private static readonly Histogram Throughput = Metrics.CreateHistogram(
        "bgsnap_capture_throughput_bytes_per_second",
        "Guest RAM per second of a whole capture.",
        new HistogramConfiguration { Buckets = Histogram.ExponentialBuckets(1 << 20, 2, 14) }
    );

    private static readonly Histogram Stored = Metrics.CreateHistogram(
        "bgsnap_capture_stored_bytes",
        "Bytes of a snapshot on its claim.",
        new HistogramConfiguration { Buckets = Histogram.ExponentialBuckets(1 << 20, 4, 11) }
    );

    private static readonly Counter Restores = Metrics.CreateCounter(
        "bgsnap_restores_total",
        "Restores that ended, by result (succeeded, failed) and reason.",
        "result",
        "reason"
    );
    private static readonly Histogram RestoreTotal = Seconds("bgsnap_restore_duration_seconds", "Time of a whole restore.", 0.05, 16);
    private static readonly Histogram RestoreToRun = Seconds(
        "bgsnap_restore_time_to_run_seconds",
        "Time from the begin of a restore until its guest ran.",
        0.005,
        19
    );
    private static readonly Counter RestoreFaults = Metrics.CreateCounter(
        "bgsnap_restore_faults_total",
        "Pages that restored guests touched before they had arrived (mode Instant)."
    );
    private static readonly Histogram RestoreFaultLatency = Seconds(
        "bgsnap_restore_fault_latency_seconds",
        "99th percentile of the time until such a page was there, one observation a restore.",
        0.00001,
        18
    );
    private static readonly Counter RestoredBytes = Metrics.CreateCounter(
        "bgsnap_restored_bytes_total",
        "Bytes restored, of guest RAM (memory) and of disk data (disks).",
        "kind"
    );

    /// <summary>Counts a capture as running until the result is disposed.</summary>
    internal static IDisposable Begin() => Running.TrackInProgress();

    /// <summary>Counts a task that ended.</summary>
    internal static void Ended(SnapshotTask task, SnapshotTaskStatus end)
    {
        bool good = end.Phase == TaskPhase.Succeeded;
        if (task.Spec.Action == TaskAction.Restore)
        {
            Restores.WithLabels(good ? "succeeded" : "failed", end.Reason ?? "").Inc();
            Observe(RestoreTotal, end.Result?.TotalMicroseconds);
            Observe(RestoreToRun, end.Result?.TimeToRunMicroseconds);
            Observe(RestoreFaultLatency, end.Result?.FaultP99Microseconds);
            RestoreFaults.Inc(end.Result?.Faults ?? 0);
        }
        if (task.Spec.Action != TaskAction.Capture)
            return;
        Captures.WithLabels(good ? "succeeded" : "failed", end.Reason ?? "", end.Result?.Engine ?? "").Inc();
        if (end.Reason == Reasons.AgentDied)
            Kills.Inc();
        if (!good || end.Result is not { } r)
            return;
        Observe(Downtime, r.DowntimeMicroseconds);
        Observe(Window, r.ProtectionWindowMicroseconds);
        Observe(Total, r.TotalMicroseconds);
        Observe(FaultLatency, r.FaultP99Microseconds);
        if (r.StoredBytes is { } stored)
            Stored.Observe(stored);
        if (r.RamBytes is { } ram && r.TotalMicroseconds is > 0 and { } time)
            Throughput.Observe(ram / (time / 1e6));
    }

    /// <summary>Adds the bytes that a restore loaded.</summary>
    internal static void Restored(long ramBytes, long diskBytes)
    {
        RestoredBytes.WithLabels("memory").Inc(ramBytes);
        RestoredBytes.WithLabels("disks").Inc(diskBytes);
    }

    private static void Observe(Histogram histogram, long? microseconds)
    {
        if (microseconds is { } us)
            histogram.Observe(us / 1e6);
    }

    private static Histogram Seconds(string name, string help, double first, int count) =>
        Metrics.CreateHistogram(name, help, new HistogramConfiguration { Buckets = Histogram.ExponentialBuckets(first, 2, count) });
}
