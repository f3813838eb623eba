using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Snapshots;

namespace Bgsnap.Operator.Schedules;

/// <summary>Which snapshots of a schedule go. Pure.</summary>
internal static class Retention
{
    /// <summary>Failed snapshots that are kept when nothing is said.</summary>
    public const int DefaultFailedCount = 3;

    /// <summary>A snapshot that goes, and why.</summary>
    public readonly record struct Excess(VMBackgroundSnapshot Snapshot, string Why);

    /// <summary>Those that go, oldest first.</summary>
    /// <param name="retention">What is kept; null: every Ready one.</param>
    /// <param name="snapshots">All of the schedule.</param>
    /// <param name="inUse">Whether somebody needs this one: it stays, whatever its age.</param>
    /// <param name="now">Now.</param>
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
        excess.AddRange(failed.Skip(failedCount).Select(s => new Excess(s, $"{failedCount} failed ones are kept")));
        if (retention?.Count is { } count)
            excess.AddRange(ready.Skip(count).Select(s => new Excess(s, $"{count} are kept")));
        DateTime oldest = now.UtcDateTime - MaxAge(retention);
        // The newest Ready one stays however old it is: there is always one to go back to.
        excess.AddRange(
            ready.Skip(1).Where(s => Age(s) < oldest).Select(s => new Excess(s, $"those of the last {retention!.MaxAge} are kept"))
        );
        return [.. excess.Where(e => !inUse(e.Snapshot)).DistinctBy(e => e.Snapshot.Metadata.Uid).OrderBy(e => Age(e.Snapshot))];
    }

    /// <summary>When the next one becomes too old, or null.</summary>
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

    // What it shows is what counts; a failed one shows nothing.
    private static DateTime Age(VMBackgroundSnapshot snapshot) =>
        snapshot.Status?.PointInTime ?? snapshot.Metadata.CreationTimestamp ?? DateTime.MinValue;
}
