using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Vocabulary;
using Cronos;

namespace Bgsnap.Operator.Schedules;

/// <summary>A cron expression in its time zone.</summary>
internal sealed class CronSchedule
{
    private readonly CronExpression _expression;
    private readonly TimeZoneInfo _zone;

    private CronSchedule(CronExpression expression, TimeZoneInfo zone, string text) =>
        (_expression, _zone, Text) = (expression, zone, text);

    /// <summary>Expression and zone as one line; compared to detect a change of either.</summary>
    public string Text { get; }

    /// <summary>Parses expression and zone.</summary>
    /// <param name="expression">Five fields, or a macro such as <c>@daily</c>.</param>
    /// <param name="zone">IANA name; null: UTC.</param>
    /// <exception cref="InvalidScheduleException">The expression or the zone is invalid.</exception>
    public static CronSchedule Parse(string expression, string? zone)
    {
        CronExpression parsed;
        try
        {
            parsed = CronExpression.Parse(expression.Trim(), CronFormat.Standard);
        }
        catch (CronFormatException e)
        {
            throw new InvalidScheduleException(
                Reasons.InvalidSchedule,
                $"spec.schedule \"{expression}\": {e.Message.TrimEnd('.')}. The fields are minute, hour, day of the month, "
                    + "month and day of the week, for example \"0 3 * * *\""
            );
        }
        return new CronSchedule(parsed, ZoneOf(zone), zone is null ? $"{expression.Trim()} UTC" : $"{expression.Trim()} {zone}");
    }

    /// <summary>The first time after this one; null: never again.</summary>
    public DateTimeOffset? Next(DateTimeOffset after) => _expression.GetNextOccurrence(after, _zone)?.ToUniversalTime();

    /// <summary>The last time in (after, upTo], and the number of earlier times in it; null: no time.</summary>
    public (DateTimeOffset Latest, int Before)? Latest(DateTimeOffset after, DateTimeOffset upTo)
    {
        (DateTimeOffset Latest, int Before)? found = null;
        foreach (DateTimeOffset time in _expression.GetOccurrences(after, upTo, _zone, fromInclusive: false, toInclusive: true))
            found = (time.ToUniversalTime(), found is { } f ? f.Before + 1 : 0);
        return found;
    }

    private static TimeZoneInfo ZoneOf(string? zone)
    {
        if (zone is null)
            return TimeZoneInfo.Utc;
        try
        {
            return TimeZoneInfo.FindSystemTimeZoneById(zone);
        }
        catch (Exception e) when (e is TimeZoneNotFoundException or InvalidTimeZoneException or System.Security.SecurityException)
        {
            throw new InvalidScheduleException(
                Reasons.InvalidTimeZone,
                $"spec.timeZone \"{zone}\" is unknown: use a name of the IANA time zone database, for example Europe/Berlin or UTC"
            );
        }
    }
}

/// <summary>The schedule's expression or time zone is invalid.</summary>
internal sealed class InvalidScheduleException(string reason, string message) : Exception(message)
{
    /// <summary>The condition's reason, in CamelCase.</summary>
    public string Reason => reason;
}
