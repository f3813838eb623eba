using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;

namespace Bgsnap.Operator.Schedules;

/// <summary>Selects the snapshots of a schedule that retention deletes. Pure.</summary>
internal static class Retention
{
    /// <summary>The default number of failed snapshots to keep.</summary>
    public const int DefaultFailedCount = 3;

    /// <summary>A snapshot to delete, and why.</summary>
    public readonly record struct Excess(VMBackgroundSnapshot Snapshot, string Why);

    /// <summary>The snapshots to delete, oldest first.</summary>
    /// <param name="retention">What to keep; null: every Ready snapshot.</param>
    /// <param name="snapshots">All snapshots of the schedule.</param>
    /// <param name="inUse">Whether a snapshot is in use: then it stays, whatever its age.</param>
    /// <param name="now">The current time.</param>
    public static IReadOnlyList<Excess> Of(
        ScheduleRetention? retention,
        IEnumerable<VMBackgroundSnapshot> snapshots,
        Func<VMBackgroundSnapshot, bool> inUse,
        DateTimeOffset now
    )
    {
        List<VMBackgroundSnapshot> all =
        [
            .. snapshots
                .Where(s => s.Metadata.DeletionTimestamp is null)
                .OrderByDescending(Age)
                .ThenByDescending(s => s.Metadata.Name, StringComparer.Ordinal),
        ];
        List<VMBackgroundSnapshot> ready = [.. all.Where(s => s.Status?.Phase == SnapshotPhase.Ready)];
        List<VMBackgroundSnapshot> failed = [.. all.Where(s => s.Status?.Phase == SnapshotPhase.Failed)];
        List<Excess> excess = [];
        int failedCount = retention?.FailedCount ?? DefaultFailedCount;
        excess.AddRange(failed.Skip(failedCount).Select(s => new Excess(s, $"the retention keeps {failedCount} failed snapshots")));
        if (retention?.Count is { } count)
            excess.AddRange(ready.Skip(count).Select(s => new Excess(s, $"the retention keeps {count} Ready snapshots")));
        DateTime oldest = now.UtcDateTime - MaxAge(retention);
        // The newest Ready snapshot stays however old it is, so that there is always one to restore.
        excess.AddRange(
            ready
                .Skip(1)
                .Where(s => Age(s) < oldest)
                .Select(s => new Excess(s, "the retention keeps the snapshots of the " + $"last {retention!.MaxAge}"))
        );
        return [.. excess.Where(e => !inUse(e.Snapshot)).DistinctBy(e => e.Snapshot.Metadata.Uid).OrderBy(e => Age(e.Snapshot))];
    }

    /// <summary>When the next snapshot becomes too old, or null.</summary>
    public static DateTimeOffset? NextExpiry(ScheduleRetention? retention, IEnumerable<VMBackgroundSnapshot> snapshots, DateTimeOffset now)
    {
        if (retention?.MaxAge is null)
            return null;
        List<DateTime> due =
        [
            .. snapshots
                .Where(s => s.Metadata.DeletionTimestamp is null && s.Status?.Phase == SnapshotPhase.Ready)
                .Select(s => Age(s) + MaxAge(retention))
                .Where(t => t >= now.UtcDateTime),
        ];
        return due.Count == 0 ? null : due.Min();
    }

    private static TimeSpan MaxAge(ScheduleRetention? retention) => Durations.Parse(retention?.MaxAge, TimeSpan.FromDays(365 * 1000));

    // The age counts from the instant that the snapshot shows; a failed one shows none.
    private static DateTime Age(VMBackgroundSnapshot snapshot) =>
        snapshot.Status?.PointInTime ?? snapshot.Metadata.CreationTimestamp ?? DateTime.MinValue;
}
