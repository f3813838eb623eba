using System.Globalization;
using System.Text.Json;
using Bgsnap.Crds.Client;
using Bgsnap.Crds.V1Alpha1;
using k8s.Models;

namespace Bgsnap.Operator.Schedules;

/// <summary>The snapshot that a schedule makes for a time it is due.</summary>
internal static class SnapshotOf
{
    /// <summary>
    /// Its name: the schedule's and the minute in UTC, so that the same time gives the same name, whoever makes it, and in autumn the
    /// hour that comes twice gives two.
    /// </summary>
    public static string NameFor(VMBackgroundSnapshotSchedule schedule, DateTimeOffset due) =>
        string.Create(CultureInfo.InvariantCulture, $"{schedule.Metadata.Name}-{due.UtcDateTime:yyyyMMddHHmm}");

    /// <summary>Builds it. It is not owned by the schedule: snapshots stay when that is deleted.</summary>
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

    /// <summary>Whether a schedule of this name made it. Whoever removes the label takes it out of the schedule's care.</summary>
    public static bool IsOf(VMBackgroundSnapshot snapshot, string ns, string schedule) =>
        snapshot.Metadata.NamespaceProperty == ns && ScheduleOf(snapshot) == schedule;

    /// <summary>Name of the schedule that made it, or null.</summary>
    public static string? ScheduleOf(VMBackgroundSnapshot snapshot) =>
        snapshot.Metadata.Annotations?.ContainsKey(Names.ScheduledAtAnnotation) == true
        && snapshot.Metadata.Labels?.TryGetValue(Names.ScheduleLabel, out string? name) == true
            ? name
            : null;
}
