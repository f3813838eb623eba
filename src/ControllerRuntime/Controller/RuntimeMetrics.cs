using Prometheus;

namespace Bgsnap.ControllerRuntime.Controller;

/// <summary>The runtime's Prometheus metrics.</summary>
internal static class RuntimeMetrics
{
    internal static readonly Gauge Depth = Metrics.CreateGauge(
        "bgsnap_workqueue_depth",
        "Objects that wait to be reconciled.",
        "controller"
    );

    internal static readonly Counter Total = Metrics.CreateCounter(
        "bgsnap_reconcile_total",
        "Reconciliations by result: ok, conflict, error, stopped.",
        "controller",
        "result"
    );

    internal static readonly Counter Errors = Metrics.CreateCounter(
        "bgsnap_reconcile_errors_total",
        "Reconciliations that failed and are tried again.",
        "controller"
    );

    internal static readonly Histogram Duration = Metrics.CreateHistogram(
        "bgsnap_reconcile_duration_seconds",
        "Time of one reconciliation.",
        new HistogramConfiguration { LabelNames = ["controller"], Buckets = Histogram.ExponentialBuckets(0.001, 2, 14) }
    );
}
