using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;

namespace Bgsnap.Operator.Schedules;

/// <summary>What a schedule has to do now. Pure.</summary>
/// <param name="Due">The time for which a snapshot is due; null: nothing is due.</param>
/// <param name="Missed">The number of earlier due times that passed while no operator ran.</param>
/// <param name="TooLate">The due time is further in the past than the starting deadline allows.</param>
/// <param name="Next">The next due time; null: never again.</param>
internal sealed record SchedulePlan(DateTimeOffset? Due, int Missed, bool TooLate, DateTimeOffset? Next)
{
    /// <summary>Computes the plan.</summary>
    public static SchedulePlan Of(CronSchedule cron, ScheduleSpec spec, ScheduleStatus status, DateTimeOffset now)
    {
        DateTimeOffset? next = cron.Next(now);
        if (cron.Latest(HandledUpTo(status), now) is not { } found)
            return new SchedulePlan(null, 0, false, next);
        TimeSpan deadline = Durations.Parse(spec.StartingDeadline, TimeSpan.MaxValue);
        return new SchedulePlan(found.Latest, found.Before, now - found.Latest > deadline, next);
    }

    /// <summary>
    /// Updates the effective schedule to the spec. Times before a change of the spec, or before the end of a suspension, are not made up
    /// for.
    /// </summary>
    public static void TakeEffect(CronSchedule cron, VMBackgroundSnapshotSchedule schedule, ScheduleStatus status, DateTimeOffset now)
    {
        bool first = status.EffectiveSchedule is null,
            resumed = status.Phase == SchedulePhase.Suspended && schedule.Spec.Suspend != true;
        if (!resumed && status.EffectiveSchedule == cron.Text)
            return;
        status.EffectiveSchedule = cron.Text;
        status.EffectiveSince = first && schedule.Metadata.CreationTimestamp is { } created ? created : Conditions.WholeSecond(now);
    }

    // Every due time up to this one has been handled: made or skipped.
    private static DateTimeOffset HandledUpTo(ScheduleStatus status)
    {
        DateTime latest = status.EffectiveSince ?? DateTime.MinValue;
        if (status.LastScheduleTime > latest)
            latest = status.LastScheduleTime.Value;
        if (status.LastSkippedTime > latest)
            latest = status.LastSkippedTime.Value;
        return new DateTimeOffset(DateTime.SpecifyKind(latest, DateTimeKind.Utc));
    }
}
