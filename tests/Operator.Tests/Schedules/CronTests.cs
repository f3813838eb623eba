using System.Globalization;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Schedules;
using k8s.Models;

namespace Bgsnap.Operator.Tests.Schedules;

/// <summary>When a schedule is due, in its time zone.</summary>
public sealed class CronTests
{
    [Theory]
    // An ordinary day, in winter and in summer.
    [InlineData("0 3 * * *", "Europe/Berlin", "2026-01-10T00:00Z", "2026-01-10T02:00Z")]
    [InlineData("0 3 * * *", "Europe/Berlin", "2026-07-10T00:00Z", "2026-07-10T01:00Z")]
    [InlineData("0 3 * * *", null, "2026-07-10T00:00Z", "2026-07-10T03:00Z")]
    [InlineData("0 3 * * *", null, "2026-07-10T03:00Z", "2026-07-11T03:00Z")]
    // 02:30 does not exist on 2026-03-29: the run takes place when the gap ends, at 03:00 summer time.
    [InlineData("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", "2026-03-29T01:00Z")]
    [InlineData("30 2 * * *", "Europe/Berlin", "2026-03-29T01:00Z", "2026-03-30T00:30Z")]
    // An interval ignores the change: 01:30 winter time is followed by 03:00 summer time, half an hour later.
    [InlineData("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:30Z", "2026-03-29T01:00Z")]
    // 02:30 occurs twice on 2026-10-25: a time of day takes only the first.
    [InlineData("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", "2026-10-25T00:30Z")]
    [InlineData("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30Z", "2026-10-26T01:30Z")]
    // An interval takes both.
    [InlineData("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:30Z", "2026-10-25T01:00Z")]
    [InlineData("*/30 * * * *", "Europe/Berlin", "2026-10-25T01:00Z", "2026-10-25T01:30Z")]
    // South of the equator, and half an hour of daylight saving.
    [InlineData("0 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00Z", "2026-10-03T15:30Z")]
    [InlineData("0 12 * * *", "Asia/Kathmandu", "2026-01-10T00:00Z", "2026-01-10T06:15Z")]
    // Days and macros.
    [InlineData("0 3 L * *", null, "2026-02-10T00:00Z", "2026-02-28T03:00Z")]
    [InlineData("0 3 * * 5L", null, "2026-01-01T00:00Z", "2026-01-30T03:00Z")]
    [InlineData("0 3 * * MON-FRI", null, "2026-01-02T04:00Z", "2026-01-05T03:00Z")]
    [InlineData("@daily", "America/New_York", "2026-01-10T12:00Z", "2026-01-11T05:00Z")]
    [InlineData("@weekly", null, "2026-01-02T00:00Z", "2026-01-04T00:00Z")]
    [InlineData("0 0 29 2 *", null, "2026-01-01T00:00Z", "2028-02-29T00:00Z")]
    [InlineData("0 0 31 2 *", null, "2026-01-01T00:00Z", null)]
    public void The_next_time(string expression, string? zone, string after, string? next) =>
        Assert.Equal(next is null ? (DateTimeOffset?)null : At(next), CronSchedule.Parse(expression, zone).Next(At(after)));

    [Theory]
    [InlineData("2026-01-01T03:00Z", "2026-01-02T02:59Z", null, 0)]
    [InlineData("2026-01-01T03:00Z", "2026-01-02T03:00Z", "2026-01-02T03:00Z", 0)]
    [InlineData("2026-01-01T03:00Z", "2026-01-05T12:00Z", "2026-01-05T03:00Z", 3)]
    [InlineData("2025-01-01T03:00Z", "2026-01-01T03:00Z", "2026-01-01T03:00Z", 364)]
    public void The_latest_that_was_missed_and_how_many_before(string after, string upTo, string? latest, int before)
    {
        var found = CronSchedule.Parse("0 3 * * *", null).Latest(At(after), At(upTo));
        Assert.Equal(latest is null ? ((DateTimeOffset Latest, int Before)?)null : (At(latest), before), found);
    }

    [Fact]
    public void In_the_hour_that_occurs_twice_each_time_is_due_once_with_its_own_name()
    {
        CronSchedule cron = CronSchedule.Parse("*/30 * * * *", "Europe/Berlin");
        VMBackgroundSnapshotSchedule schedule = new() { Metadata = new V1ObjectMeta { Name = "s" } };
        List<string> names = [];
        for (DateTimeOffset? t = At("2026-10-24T23:59Z"); names.Count < 6; names.Add(ScheduledSnapshot.NameFor(schedule, t!.Value)))
            t = cron.Next(t!.Value);
        Assert.Equal(["s-202610250000", "s-202610250030", "s-202610250100", "s-202610250130", "s-202610250200", "s-202610250230"], names);
    }

    [Theory]
    [InlineData("60 3 * * *", null, "InvalidSchedule", "spec.schedule \"60 3 * * *\": ")]
    [InlineData("0 3 * * MOON", null, "InvalidSchedule", "The fields are minute, hour, day of the month, month and day of the week")]
    [InlineData("0 3 * *", null, "InvalidSchedule", "spec.schedule")]
    [InlineData("0 0 3 * * *", null, "InvalidSchedule", "spec.schedule")]
    [InlineData("", null, "InvalidSchedule", "spec.schedule")]
    [InlineData("0 3 * * *", "Europe/Bärlin", "InvalidTimeZone", "use a name of the IANA time zone database")]
    [InlineData("0 3 * * *", "../../etc/passwd", "InvalidTimeZone", "spec.timeZone \"../../etc/passwd\"")]
    [InlineData("0 3 * * *", "", "InvalidTimeZone", "spec.timeZone")]
    public void An_invalid_expression_is_reported(string expression, string? zone, string reason, string message)
    {
        InvalidScheduleException e = Assert.Throws<InvalidScheduleException>(() => CronSchedule.Parse(expression, zone));
        Assert.Equal(reason, e.Reason);
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(null, "2026-01-03T12:00Z", "2026-01-03T03:00Z", 1, false)]
    [InlineData("9h", "2026-01-03T12:00Z", "2026-01-03T03:00Z", 1, false)]
    [InlineData("8h59m59s", "2026-01-03T12:00Z", "2026-01-03T03:00Z", 1, true)]
    [InlineData("1h", "2026-01-02T03:00Z", "2026-01-02T03:00Z", 0, false)]
    [InlineData("1h", "2026-01-02T02:00Z", null, 0, false)]
    public void What_is_due_and_whether_too_late(string? deadline, string now, string? due, int missed, bool late)
    {
        ScheduleStatus status = new() { EffectiveSince = new DateTime(2026, 1, 1, 5, 0, 0, DateTimeKind.Utc) };
        SchedulePlan plan = SchedulePlan.Of(
            CronSchedule.Parse("0 3 * * *", null),
            new ScheduleSpec { StartingDeadline = deadline },
            status,
            At(now)
        );
        Assert.Equal((due is null ? (DateTimeOffset?)null : At(due), missed, late), (plan.Due, plan.Missed, plan.TooLate));
    }

    [Theory]
    [InlineData("2026-01-02T03:00Z", null, 0)]
    [InlineData(null, "2026-01-02T03:00Z", 0)]
    [InlineData("2026-01-01T03:00Z", null, 1)]
    public void A_handled_due_time_is_not_due_again(string? made, string? leftOut, int expected)
    {
        ScheduleStatus status = new()
        {
            EffectiveSince = new DateTime(2025, 12, 1, 0, 0, 0, DateTimeKind.Utc),
            LastScheduleTime = made is null ? null : At(made).UtcDateTime,
            LastSkippedTime = leftOut is null ? null : At(leftOut).UtcDateTime,
        };
        SchedulePlan plan = SchedulePlan.Of(CronSchedule.Parse("0 3 * * *", null), new ScheduleSpec(), status, At("2026-01-02T04:00Z"));
        Assert.Equal(expected, plan.Due is null ? 0 : plan.Missed + 1);
    }

    private static DateTimeOffset At(string time) =>
        DateTimeOffset.Parse(time, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal);
}
