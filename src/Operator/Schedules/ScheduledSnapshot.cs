using System.Globalization;
using System.Text.Json;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using k8s.Models;

namespace Bgsnap.Operator.Schedules;

/// <summary>The snapshot that a schedule creates for a due time.</summary>
internal static class ScheduledSnapshot
{
    /// <summary>
    /// The snapshot's name: the schedule's name and the minute in UTC. The same time always gives the same name, whichever replica leads;
    /// the hour that occurs twice in autumn gives two names.
    /// </summary>
    public static string NameFor(VMBackgroundSnapshotSchedule schedule, DateTimeOffset due) =>
        string.Create(CultureInfo.InvariantCulture, $"{schedule.Metadata.Name}-{due.UtcDateTime:yyyyMMddHHmm}");

    /// <summary>Builds the snapshot. The schedule does not own it: snapshots stay when their schedule is deleted.</summary>
    public static VMBackgroundSnapshot Build(VMBackgroundSnapshotSchedule schedule, DateTimeOffset due)
    {
        SnapshotTemplate template = schedule.Spec.Template;
        Dictionary<string, string> labels = new(template.Metadata?.Labels ?? []) { [Names.ScheduleLabel] = schedule.Metadata.Name };
        Dictionary<string, string> annotations = new(template.Metadata?.Annotations ?? [])
        {
            [Names.ScheduledAtAnnotation] = due.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture),
        };
        return new VMBackgroundSnapshot
        {
            Metadata = new V1ObjectMeta
            {
                Name = NameFor(schedule, due),
                NamespaceProperty = schedule.Metadata.NamespaceProperty,
                Labels = labels,
                Annotations = annotations,
            },
            Spec = JsonSerializer.Deserialize(
                JsonSerializer.Serialize(template.Spec, BgsnapJson.Default.SnapshotSpec),
                BgsnapJson.Default.SnapshotSpec
            )!,
        };
    }

    /// <summary>
    /// Whether the schedule of this name created the snapshot. A user who removes the label takes the snapshot out of the schedule's
    /// retention.
    /// </summary>
    public static bool IsOf(VMBackgroundSnapshot snapshot, string ns, string schedule) =>
        snapshot.Metadata.NamespaceProperty == ns && ScheduleOf(snapshot) == schedule;

    /// <summary>Name of the schedule that created the snapshot, or null.</summary>
    public static string? ScheduleOf(VMBackgroundSnapshot snapshot) =>
        snapshot.Metadata.Annotations?.ContainsKey(Names.ScheduledAtAnnotation) == true
        && snapshot.Metadata.Labels?.TryGetValue(Names.ScheduleLabel, out string? name) == true
            ? name
            : null;
}
