using Bgsnap.ControllerRuntime.Controller;
using Prometheus;

namespace Bgsnap.Operator.Schedules;

/// <summary>The operator's Prometheus metrics of schedules.</summary>
internal static class ScheduleMetrics
{
    private static readonly Counter Runs = Metrics.CreateCounter(
        "bgsnap_schedule_runs_total",
        "Due times of a schedule, by result: created, skipped (the previous snapshot was in progress), late (past "
            + "startingDeadline), missed (no operator ran), refused (the name was taken).",
        "schedule_namespace",
        "schedule",
        "result"
    );

    private static readonly Gauge LastSuccess = Metrics.CreateGauge(
        "bgsnap_schedule_last_success_timestamp_seconds",
        "When a snapshot of the schedule last became Ready.",
        "schedule_namespace",
        "schedule"
    );

    /// <summary>Schedules by phase.</summary>
    public static readonly Gauge Phases = Metrics.CreateGauge("bgsnap_schedules", "Schedules by phase.", "phase");

    /// <summary>The possible results of a due time.</summary>
    private static readonly string[] Results = ["created", "skipped", "late", "missed", "refused"];

    /// <summary>Counts the result of a due time.</summary>
    public static void Ran(ObjectKey key, string result, int count = 1)
    {
        // Create all series at 0, so that Prometheus sees the first increase as one.
        foreach (string r in Results)
            Runs.WithLabels(key.Namespace, key.Name, r).Inc(0);
        Runs.WithLabels(key.Namespace, key.Name, result).Inc(count);
    }

    /// <summary>Records when a snapshot last became Ready.</summary>
    public static void Succeeded(ObjectKey key, DateTime? time)
    {
        if (time is { } t)
            LastSuccess.WithLabels(key.Namespace, key.Name).Set(new DateTimeOffset(t).ToUnixTimeSeconds());
    }

    /// <summary>Removes the series of a schedule that is gone.</summary>
    public static void Forget(ObjectKey key)
    {
        foreach (string r in Results)
            Runs.RemoveLabelled(key.Namespace, key.Name, r);
        LastSuccess.RemoveLabelled(key.Namespace, key.Name);
    }
}
