namespace Bgsnap.Vocabulary;

// Reasons of schedules.
public static partial class Reasons
{
    [Reason(
        ReasonFamily.Schedule,
        Seen.Failed,
        "`spec.schedule` is not a cron expression",
        "Correct it: minute, hour, day of the month, month, day of the week"
    )]
    public const string InvalidSchedule = nameof(InvalidSchedule);

    [Reason(
        ReasonFamily.Schedule,
        Seen.Failed,
        "The operator does not know the time zone of `spec.timeZone`",
        "Use a name of the IANA database, such as `Europe/Berlin`"
    )]
    public const string InvalidTimeZone = nameof(InvalidTimeZone);

    [Reason(
        ReasonFamily.Schedule,
        Seen.Event,
        "A snapshot was due longer ago than `startingDeadline` allows, and was left out",
        "See why the operator was late"
    )]
    public const string MissedDeadline = nameof(MissedDeadline);

    [Reason(
        ReasonFamily.Schedule,
        Seen.Event,
        "Snapshots were due while no operator ran, and were left out",
        "See why the operator did not run"
    )]
    public const string MissedRuns = nameof(MissedRuns);

    [Reason(
        ReasonFamily.Schedule,
        Seen.Event,
        "A VMBackgroundSnapshot of the due snapshot's name exists, and this schedule did not make it",
        "Delete or rename it"
    )]
    public const string NameTaken = nameof(NameTaken);

    [Reason(
        ReasonFamily.Schedule,
        Seen.Failed,
        "`spec.schedule` has no due time in the future, such as `0 3 30 2 *`",
        "Correct the day of the month or the month"
    )]
    public const string NeverDueAgain = nameof(NeverDueAgain);

    [Reason(ReasonFamily.Schedule, Seen.Ready, "The schedule makes snapshots when they are due", "Nothing")]
    public const string Scheduled = nameof(Scheduled);

    [Reason(ReasonFamily.Schedule, Seen.Event, "The schedule made a snapshot", "Nothing")]
    public const string SnapshotCreated = nameof(SnapshotCreated);

    [Reason(
        ReasonFamily.Schedule,
        Seen.Event,
        "A snapshot was due while an earlier one was not finished, and `concurrencyPolicy` is `Forbid`: it was left out",
        "Make snapshots less often, or allow that"
    )]
    public const string StillUnderWay = nameof(StillUnderWay);

    [Reason(ReasonFamily.Schedule, Seen.Ready, "`spec.suspend` is true: the schedule makes no snapshots", "Set it to false")]
    public const string Suspended = nameof(Suspended);
}
