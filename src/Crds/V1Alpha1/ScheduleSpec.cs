using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using Bgsnap.Crds.Schema;

namespace Bgsnap.Crds.V1Alpha1;

/// <summary>When snapshots are made, of what, and how many are kept.</summary>
public sealed class ScheduleSpec
{
    /// <summary>Cron expression.</summary>
    [Required]
    [Description(
        "When snapshots are made: a cron expression of five fields (minute, hour, day of the month, month, day of the week), such "
            + "as \"0 3 * * *\", or @hourly, @daily, @midnight, @weekly, @monthly, @yearly. L, W and # work as in Quartz: \"0 3 * * "
            + "5L\" is the last Friday of a month."
    )]
    [Cel(
        "self.matches('^(@(hourly|daily|midnight|weekly|monthly|yearly|annually)|[^ @]+( +[^ ]+){4})$')",
        "spec.schedule: five fields (minute, hour, day of the month, month, day of the week), such as \"0 3 * * *\", or one of "
            + "@hourly, @daily, @midnight, @weekly, @monthly, @yearly; the time zone goes into spec.timeZone"
    )]
    [StringLength(128, MinimumLength = 1)]
    public string Schedule { get; set; } = "";

    /// <summary>IANA time zone; null: UTC.</summary>
    [Description(
        "Time zone of the expression, such as Europe/Berlin (IANA); UTC when not set. A time that the change to summer time "
            + "leaves out is made up for right after it; one that comes twice in autumn is taken the first time, unless the expression "
            + "is one of intervals such as */30."
    )]
    [Cel("self.matches('^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$')", "spec.timeZone: an IANA name such as Europe/Berlin or UTC")]
    [StringLength(64, MinimumLength = 1)]
    public string? TimeZone { get; set; }

    /// <summary>No more snapshots for now.</summary>
    [Description("No snapshots are made while this is true, and what was due meanwhile is not made up for. Retention goes on.")]
    public bool? Suspend { get; set; }

    /// <summary>Allow or Forbid.</summary>
    [Description(
        "What happens when a snapshot is due and the one before is not Ready or Failed yet. Forbid: it is left out. Allow: it is "
            + "made all the same, and waits its turn on the VM's node."
    )]
    [AllowedValues(ScheduleConcurrency.Allow, ScheduleConcurrency.Forbid)]
    [DefaultValue(ScheduleConcurrency.Forbid)]
    public string? ConcurrencyPolicy { get; set; }

    /// <summary>How late one may be made; null: however late.</summary>
    [Description(
        "How late a snapshot may still be made, such as 2h, should the operator have been away when it was due; later it is left "
            + "out. Of several that were missed only the latest is made. However late when not set."
    )]
    [Cel(
        "self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$') && self != '' && duration(self) >= duration('10s')",
        "spec.startingDeadline: at least 10s, such as 30m or 2h"
    )]
    [StringLength(16)]
    public string? StartingDeadline { get; set; }

    /// <summary>How many are kept; null: all that are Ready.</summary>
    [Description(
        "Which snapshots of this schedule are kept; the others are deleted, with their files unless their deletionPolicy is "
            + "Retain. When not set every Ready one is kept. One that a restore uses, or that has somebody else's finalizer, is left "
            + "alone."
    )]
    public ScheduleRetention? Retention { get; set; }

    /// <summary>What is made.</summary>
    [Required]
    [Description("The VMBackgroundSnapshots that are made. Changes count for the next one.")]
    public SnapshotTemplate Template { get; set; } = new();
}

/// <summary>Which snapshots are kept.</summary>
public sealed class ScheduleRetention
{
    /// <summary>So many Ready ones.</summary>
    [Description("So many Ready snapshots are kept, the newest; all when not set.")]
    [Range(1, 10000)]
    public int? Count { get; set; }

    /// <summary>Ready ones that are no older.</summary>
    [Description(
        "Ready snapshots that are older, such as 168h, are deleted. The newest Ready one is kept however old it is, so that there "
            + "is always one to go back to."
    )]
    [Cel(
        "self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$') && self != '' && duration(self) >= duration('1m')",
        "spec.retention.maxAge: at least 1m, such as 168h for a week"
    )]
    [StringLength(16)]
    public string? MaxAge { get; set; }

    /// <summary>So many Failed ones; null: 3.</summary>
    [Description("So many Failed snapshots are kept for a look at what happened, the newest; 3 when not set.")]
    [Range(0, 1000)]
    public int? FailedCount { get; set; }
}

/// <summary>A snapshot to make.</summary>
public sealed class SnapshotTemplate
{
    /// <summary>Labels and annotations.</summary>
    [Description("Labels and annotations of the snapshots.")]
    public SnapshotTemplateMetadata? Metadata { get; set; }

    /// <summary>The spec.</summary>
    [Required]
    [Description("The spec of the snapshots, as of a VMBackgroundSnapshot.")]
    public SnapshotSpec Spec { get; set; } = new();
}

/// <summary>Metadata of a snapshot to make.</summary>
public sealed class SnapshotTemplateMetadata
{
    /// <summary>Labels.</summary>
    [Description("Labels of the snapshots. bgsnap.io/schedule is the operator's own.")]
    [MapLimits(64, 63)]
    public Dictionary<string, string>? Labels { get; set; }

    /// <summary>Annotations.</summary>
    [Description("Annotations of the snapshots. bgsnap.io/scheduled-at is the operator's own.")]
    [MapLimits(64, 65536)]
    public Dictionary<string, string>? Annotations { get; set; }
}

/// <summary>Values of <see cref="ScheduleSpec.ConcurrencyPolicy"/>.</summary>
public static class ScheduleConcurrency
{
    /// <summary>Each is made when it is due.</summary>
    public const string Allow = "Allow";

    /// <summary>One that is due while another is under way is left out.</summary>
    public const string Forbid = "Forbid";
}
