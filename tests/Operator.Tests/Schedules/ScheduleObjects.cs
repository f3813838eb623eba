using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.Tests.InMemory;
using k8s.Models;

namespace Bgsnap.Operator.Tests.Schedules;

/// <summary>Schedules to start a test with, and queries of a world about them.</summary>
internal static class ScheduleObjects
{
    internal static VMBackgroundSnapshotSchedule Schedule(string expression, Action<ScheduleSpec>? change = null, string name = "nightly")
    {
        VMBackgroundSnapshotSchedule schedule = new()
        {
            Metadata = new V1ObjectMeta { Name = name, NamespaceProperty = World.Namespace },
            Spec = new ScheduleSpec
            {
                Schedule = expression,
                ConcurrencyPolicy = ScheduleConcurrency.Forbid,
                Template = new SnapshotTemplate
                {
                    Metadata = new SnapshotTemplateMetadata
                    {
                        Labels = new() { ["app"] = "db", [Names.ScheduleLabel] = "mine" },
                        Annotations = new() { ["note"] = "by the clock" },
                    },
                    Spec = TestObjects.Snapshot("any").Spec,
                },
            },
        };
        change?.Invoke(schedule.Spec);
        return schedule;
    }

    internal static Task Add(this World world, VMBackgroundSnapshotSchedule schedule) =>
        world.Api.Create(Resources.Schedules, schedule, default);

    internal static VMBackgroundSnapshotSchedule Schedule(this World world, string name = "nightly") =>
        world.All(Resources.Schedules).Single(s => s.Metadata.Name == name);

    internal static string ScheduleCondition(this World world, string name = "nightly", string type = ConditionTypes.Ready) =>
        world.Schedule(name).Status?.Conditions?.SingleOrDefault(c => c.Type == type) is { } c ? $"{c.Status} {c.Reason}: {c.Message}" : "";

    internal static IEnumerable<string> Snapshots(this World world) =>
        world.All(Resources.Snapshots).Select(s => s.Metadata.Name).Order(StringComparer.Ordinal);

    /// <summary>The names of all snapshots ever created.</summary>
    internal static IEnumerable<string> SnapshotsEver(this World world) =>
        world
            .Api.History.Where(c => c.Plural == "vmbackgroundsnapshots" && c.Type == "ADDED")
            .Select(c => c.Object["metadata"]!["name"]!.GetValue<string>());

    /// <summary>Changes a schedule as a user would.</summary>
    internal static Task Change(this World world, System.Text.Json.Nodes.JsonObject spec) =>
        world.Api.MergePatch(
            Resources.Schedules,
            World.Namespace,
            "nightly",
            null,
            new System.Text.Json.Nodes.JsonObject { ["spec"] = spec },
            default
        );

    /// <summary>Sets the clock to this time of the day, without any reconcile meanwhile.</summary>
    internal static void ClockTo(this World world, string time)
    {
        DateTimeOffset to = DateTimeOffset.Parse(
            time,
            System.Globalization.CultureInfo.InvariantCulture,
            System.Globalization.DateTimeStyles.AssumeUniversal
        );
        Assert.True(to >= world.Clock.GetUtcNow(), $"{to} is past");
        world.Clock.Advance(to - world.Clock.GetUtcNow());
    }
}
