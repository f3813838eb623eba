using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Snapshots;

namespace Bgsnap.Operator.Schedules;

/// <summary>What a schedule has to do at a moment. Pure.</summary>
/// <param name="Due">A snapshot is due for this time; null: none is.</param>
/// <param name="Missed">So many before that were never looked at: the operator was away.</param>
/// <param name="TooLate">It is later than the starting deadline allows.</param>
/// <param name="Next">When the next one is due; null: never again.</param>
internal sealed record SchedulePlan(DateTimeOffset? Due, int Missed, bool TooLate, DateTimeOffset? Next)
{
    /// <summary>Works it out.</summary>
    public static SchedulePlan Of(CronSchedule cron, ScheduleSpec spec, ScheduleStatus status, DateTimeOffset now)
    {
        DateTimeOffset? next = cron.Next(now);
        if (cron.Latest(HandledUpTo(status), now) is not { } found)
            return new SchedulePlan(null, 0, false, next);
        TimeSpan deadline = Durations.Parse(spec.StartingDeadline, TimeSpan.MaxValue);
        return new SchedulePlan(found.Latest, found.Before, now - found.Latest > deadline, next);
    }

    /// <summary>
    /// Brings what is in effect up to date with the spec; nothing before a change, or a suspension's end, is made up for.
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

    // Everything up to here has been made or left out.
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
