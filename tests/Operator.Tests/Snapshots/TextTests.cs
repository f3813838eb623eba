using System.Text.Json.Nodes;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.Snapshots;
using k8s.Models;

namespace Bgsnap.Operator.Tests.Snapshots;

/// <summary>The pure parts: texts, conditions, patches, names.</summary>
public sealed class TextTests
{
    private static readonly DateTimeOffset Now = new(2026, 1, 2, 3, 4, 5, 678, TimeSpan.Zero);

    [Theory]
    [InlineData("90s", 90)]
    [InlineData("1h30m", 5400)]
    [InlineData("30m", 1800)]
    [InlineData("1h0m1s", 3601)]
    [InlineData("99999h", 99999 * 3600.0)]
    [InlineData("999999m", 999999 * 60.0)]
    [InlineData(null, 77)]
    [InlineData("1d", 77)]
    [InlineData("10", 77)]
    [InlineData("-1h", 77)]
    public void Deadlines_are_read(string? text, double seconds) =>
        Assert.Equal(seconds, Durations.Parse(text, TimeSpan.FromSeconds(77)).TotalSeconds);

    [Theory]
    [InlineData(0, "0ms")]
    [InlineData(1, "0ms")]
    [InlineData(850, "0.85ms")]
    [InlineData(1234, "1.23ms")]
    [InlineData(9_999, "10ms")]
    [InlineData(12_345, "12ms")]
    [InlineData(999_600, "1s")]
    [InlineData(3_456_000, "3.46s")]
    [InlineData(3_600_000_000, "3600s")]
    public void Times_are_readable(long microseconds, string text) => Assert.Equal(text, Durations.Text(microseconds));

    [Theory]
    [InlineData(0, "0Ki")]
    [InlineData(1536, "1.5Ki")]
    [InlineData(1 << 20, "1Mi")]
    [InlineData(1_288_490_189, "1.2Gi")]
    [InlineData(1L << 40, "1024Gi")]
    public void Sizes_are_readable(long bytes, string text) => Assert.Equal(text, Durations.Size(bytes));

    [Fact]
    public void A_condition_keeps_its_time_while_its_status_stays()
    {
        SnapshotStatus status = new();
        Conditions.Set(status, "Ready", false, "One", "first", 1, Now);
        DateTime first = Conditions.Get(status, "Ready")!.LastTransitionTime;
        Conditions.Set(status, "Ready", false, "Two", "second", 2, Now.AddMinutes(1));
        V1Condition ready = Assert.Single(status.Conditions!);
        Assert.Equal(("Two", "second", 2L, first), (ready.Reason, ready.Message, ready.ObservedGeneration, ready.LastTransitionTime));
        Conditions.Set(status, "Ready", true, "Three", "third", 2, Now.AddMinutes(2));
        Assert.Equal(first.AddMinutes(2), Conditions.Get(status, "Ready")!.LastTransitionTime);
        Assert.Equal(0, first.Millisecond); // what is read back equals what was written
    }

    [Fact]
    public void A_message_that_is_too_long_for_the_API_server_is_truncated()
    {
        SnapshotStatus status = new();
        Conditions.Set(status, "Ready", false, "One", new string('x', 40000), 1, Now);
        Assert.Equal(32768, Conditions.Get(status, "Ready")!.Message.Length);
    }

    [Fact]
    public void Equal_statuses_make_no_patch()
    {
        SnapshotStatus status = Full();
        Assert.Null(StatusPatch.Between(status, StatusPatch.Copy(status)));
        Assert.Null(StatusPatch.Between(null, new SnapshotStatus()));
    }

    [Fact]
    public void A_patch_contains_only_the_differences()
    {
        SnapshotStatus before = Full(),
            after = StatusPatch.Copy(before);
        (after.Phase, after.Directory, after.Progress!.Percent, after.Downtime) = ("Ready", null, 50, "1ms");
        Assert.Equal(
            """{"phase":"Ready","directory":null,"progress":{"percent":50},"downtime":"1ms"}""",
            Sorted(StatusPatch.Between(before, after)!, "phase", "directory", "progress", "downtime")
        );
    }

    [Fact]
    public void Conditions_are_replaced_together()
    {
        SnapshotStatus before = Full(),
            after = StatusPatch.Copy(before);
        Conditions.Set(after, "Stalled", true, "Why", "text", 1, Now);
        JsonObject patch = StatusPatch.Between(before, after)!;
        Assert.Equal(["conditions"], patch.Select(p => p.Key));
        Assert.Equal(2, ((JsonArray)patch["conditions"]!).Count);
    }

    [Fact]
    public void A_copied_status_can_change_without_the_original()
    {
        SnapshotStatus before = Full(),
            copy = StatusPatch.Copy(before);
        Conditions.Set(copy, "Ready", true, "Other", "", 1, Now);
        Assert.Equal("Why", Conditions.Get(before, "Ready")!.Reason);
    }

    [Fact]
    public void A_result_without_figures_is_still_Ready()
    {
        SnapshotStatus status = new();
        StatusFold.Result(new VMBackgroundSnapshot(), status, new SnapshotTaskStatus { Phase = TaskPhase.Succeeded }, Now);
        Assert.Equal((SnapshotPhase.Ready, "100%", null, null), (status.Phase, status.Progress!.Text, status.Downtime, status.Size));
    }

    [Fact]
    public void The_point_in_time_of_a_capture_does_not_move()
    {
        SnapshotStatus status = new();
        VMBackgroundSnapshot snapshot = new();
        StatusFold.Progress(snapshot, status, new SnapshotTaskStatus { Percent = 10, PointInTime = Now.UtcDateTime }, Now);
        StatusFold.Progress(
            snapshot,
            status,
            new SnapshotTaskStatus { Percent = 20, PointInTime = Now.UtcDateTime.AddSeconds(1) },
            Now.AddSeconds(5)
        );
        Assert.Equal(Now.UtcDateTime, status.PointInTime);
        Assert.Equal(
            "the snapshot shows the guest at 2026-01-02T03:04:05.678Z",
            Conditions.Get(status, ConditionTypes.PointInTime)!.Message
        );
    }

    [Fact]
    public void Names_are_of_this_snapshot_and_short_enough()
    {
        VMBackgroundSnapshot snapshot = new()
        {
            Metadata = new V1ObjectMeta
            {
                Name = new string('a', 63),
                NamespaceProperty = "ns",
                Uid = "0a1b2c3d-4e5f-6789-abcd-ef0123456789",
            },
        };
        Assert.EndsWith("a-0a1b2c3d", SnapshotNaming.Directory(snapshot), StringComparison.Ordinal);
        Assert.Matches("^[a-z0-9][a-z0-9.-]{0,79}$", SnapshotNaming.Directory(snapshot));
        foreach (string action in new[] { TaskAction.Capture, TaskAction.Delete })
        {
            Assert.Matches("^[a-z0-9][a-z0-9.-]{0,252}$", SnapshotNaming.Carrier(snapshot, action));
            Assert.Matches("^[a-z0-9][a-z0-9.-]{0,252}$", SnapshotNaming.Task(snapshot, action));
        }
        Assert.Equal(
            4,
            new[] { TaskAction.Capture, TaskAction.Delete }
                .SelectMany(a => new[] { SnapshotNaming.Carrier(snapshot, a), SnapshotNaming.Task(snapshot, a) })
                .Distinct()
                .Count()
        );
    }

    private static SnapshotStatus Full() =>
        new()
        {
            Phase = "Capturing",
            Directory = "a-1234",
            PointInTime = Now.UtcDateTime,
            Progress = new CaptureProgressStatus
            {
                Percent = 40,
                Text = "40%",
                Bytes = 7,
            },
            Conditions =
            [
                new V1Condition
                {
                    Type = "Ready",
                    Status = "False",
                    Reason = "Why",
                    Message = "text",
                    LastTransitionTime = Now.UtcDateTime,
                    ObservedGeneration = 1,
                },
            ],
        };

    private static string Sorted(JsonObject patch, params string[] order)
    {
        JsonObject sorted = [];
        foreach (string key in order.Concat(patch.Select(p => p.Key).Except(order)).Where(patch.ContainsKey).ToList())
            sorted[key] = patch[key]?.DeepClone();
        return sorted.ToJsonString();
    }
}
