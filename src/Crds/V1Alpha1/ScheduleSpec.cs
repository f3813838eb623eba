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
        "When snapshots are created: a cron expression of five fields (minute, hour, day of the month, month, day of the week), such "
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
        "Time zone of the expression, such as Europe/Berlin (IANA); UTC when not set. A time skipped by the change to summer "
            + "time is made up for right after it; a time that occurs twice in autumn counts the first time only, unless the "
            + "expression uses intervals such as */30."
    )]
    [Cel("self.matches('^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$')", "spec.timeZone: an IANA name such as Europe/Berlin or UTC")]
    [StringLength(64, MinimumLength = 1)]
    public string? TimeZone { get; set; }

    /// <summary>No more snapshots for now.</summary>
    [Description(
        "No snapshots are created while this is true, and due times during the suspension are not made up for. " + "Retention continues."
    )]
    public bool? Suspend { get; set; }

    /// <summary>Allow or Forbid.</summary>
    [Description(
        "If a snapshot is due while the previous one is not Ready or Failed yet: Forbid skips it; Allow creates it, and it "
            + "waits in the queue of the VM's node."
    )]
    [AllowedValues(ScheduleConcurrency.Allow, ScheduleConcurrency.Forbid)]
    [DefaultValue(ScheduleConcurrency.Forbid)]
    public string? ConcurrencyPolicy { get; set; }

    /// <summary>How late one may be made; null: however late.</summary>
    [Description(
        "How late a snapshot may still be created, such as 2h, if no operator ran when it was due; later it is skipped. Of "
            + "several missed ones, only the latest is created. Default: no limit."
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
            + "Retain. When not set, every Ready one is kept. A snapshot that a restore uses, or that has a foreign finalizer, is kept."
    )]
    public ScheduleRetention? Retention { get; set; }

    /// <summary>What is made.</summary>
    [Required]
    [Description("Template of the VMBackgroundSnapshots. Changes apply to the next one.")]
    public SnapshotTemplate Template { get; set; } = new();
}

/// <summary>Which snapshots are kept.</summary>
public sealed class ScheduleRetention
{
    /// <summary>So many Ready ones.</summary>
    [Description("Number of Ready snapshots to keep, the newest; all when not set.")]
    [Range(1, 10000)]
    public int? Count { get; set; }

    /// <summary>Ready ones that are no older.</summary>
    [Description(
        "Ready snapshots older than this, such as 168h, are deleted. The newest Ready one is always kept, so that one can be restored."
    )]
    [Cel(
        "self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$') && self != '' && duration(self) >= duration('1m')",
        "spec.retention.maxAge: at least 1m, such as 168h for a week"
    )]
    [StringLength(16)]
    public string? MaxAge { get; set; }

    /// <summary>So many Failed ones; null: 3.</summary>
    [Description("Number of Failed snapshots to keep for diagnosis, the newest; 3 when not set.")]
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
