using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using Bgsnap.Crds.Schema;
using k8s;
using k8s.Models;

namespace Bgsnap.Crds.V1Alpha1;

/// <summary>Makes snapshots by the clock.</summary>
[KubernetesEntity(Group = Names.Group, ApiVersion = Names.Version, Kind = KubeKind, PluralName = "vmbackgroundsnapshotschedules")]
[ResourceNames("vmbackgroundsnapshotschedule", "vmbgss")]
[Description(
    "Makes background snapshots of a virtual machine by the clock, and deletes the old ones. Snapshots stay when their "
        + "schedule is deleted."
)]
[Cel("size(self.metadata.name) <= 50", "metadata.name: at most 50 characters, since it begins the names of the snapshots")]
[PrinterColumn("Schedule", "string", ".spec.schedule")]
[PrinterColumn("Status", "string", ".status.conditions[?(@.type==\"Ready\")].reason")]
[PrinterColumn("Last", "date", ".status.lastScheduleTime")]
[PrinterColumn("Next", "string", ".status.nextScheduleTime")]
[PrinterColumn("Active", "integer", ".status.active")]
[PrinterColumn("Ready", "integer", ".status.ready")]
[PrinterColumn("Time zone", "string", ".spec.timeZone", 1)]
[PrinterColumn("VM", "string", ".spec.template.spec.source.name", 1)]
[PrinterColumn("Last success", "date", ".status.lastSuccessfulTime", 1)]
[PrinterColumn("Age", "date", ".metadata.creationTimestamp")]
public sealed class VMBackgroundSnapshotSchedule : IKubernetesObject<V1ObjectMeta>, ISpec<ScheduleSpec>, IStatus<ScheduleStatus?>
{
    /// <summary>The kind's name.</summary>
    public const string KubeKind = "VMBackgroundSnapshotSchedule";

    /// <inheritdoc/>
    public string ApiVersion { get; set; } = $"{Names.Group}/{Names.Version}";

    /// <inheritdoc/>
    public string Kind { get; set; } = KubeKind;

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <inheritdoc/>
    [Required]
    [Description("When snapshots are made, of what, and how many are kept.")]
    public ScheduleSpec Spec { get; set; } = new();

    /// <inheritdoc/>
    [Description("What has become of it. Written by the bgsnap operator alone.")]
    public ScheduleStatus? Status { get; set; }
}

/// <summary>What has become of a schedule.</summary>
public sealed class ScheduleStatus : IConditionedStatus
{
    /// <summary>Generation that this status is about.</summary>
    [Description("Generation of the object that this status describes.")]
    public long? ObservedGeneration { get; set; }

    /// <summary>One of <see cref="SchedulePhase"/>.</summary>
    [Description("Scheduled, Suspended, or Invalid (see the condition Ready).")]
    public string? Phase { get; set; }

    /// <summary>Conditions; see <see cref="ConditionTypes"/>.</summary>
    [Description("Ready: snapshots are created when they are due. Reconciling and Stalled: as kstatus defines them.")]
    [ListMapKey("type")]
    public List<V1Condition>? Conditions { get; set; }

    /// <summary>The last due time for which a snapshot was made.</summary>
    [Description("Due time of the last snapshot that was created.")]
    public DateTime? LastScheduleTime { get; set; }

    /// <summary>Its name.</summary>
    [Description("Name of that snapshot.")]
    public string? LastSnapshotName { get; set; }

    /// <summary>The last due time for which none was made.</summary>
    [Description(
        "Due time of the last snapshot that was skipped: the previous one was in progress, it was too late, or the schedule "
            + "was suspended."
    )]
    public DateTime? LastSkippedTime { get; set; }

    /// <summary>When one last became Ready.</summary>
    [Description("When a snapshot of this schedule last became Ready.")]
    public DateTime? LastSuccessfulTime { get; set; }

    /// <summary>When the next is due.</summary>
    [Description("When the next snapshot is due; not set while the schedule is suspended, invalid, or never due again.")]
    public DateTime? NextScheduleTime { get; set; }

    /// <summary>Snapshots under way.</summary>
    [Description("Snapshots of this schedule that are in progress.")]
    public int? Active { get; set; }

    /// <summary>Snapshots that are Ready.</summary>
    [Description("Snapshots of this schedule that are Ready.")]
    public int? Ready { get; set; }

    /// <summary>The expression and zone that are in effect.</summary>
    [Description("Expression and time zone that are in effect.")]
    public string? EffectiveSchedule { get; set; }

    /// <summary>Since when.</summary>
    [Description("Since when they are in effect: earlier due times do not count.")]
    public DateTime? EffectiveSince { get; set; }
}

/// <summary>Values of <see cref="ScheduleStatus.Phase"/>.</summary>
public static class SchedulePhase
{
    /// <summary>Snapshots are made.</summary>
    public const string Scheduled = "Scheduled";

    /// <summary>None are for now.</summary>
    public const string Suspended = "Suspended";

    /// <summary>None can be.</summary>
    public const string Invalid = "Invalid";
}
