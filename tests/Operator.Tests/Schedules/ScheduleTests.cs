using System.Text.Json.Nodes;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Schedules;
using Bgsnap.Operator.Tests.InMemory;
using Bgsnap.Operator.Tests.Restores;

namespace Bgsnap.Operator.Tests.Schedules;

/// <summary>A schedule in a cluster. The clock begins at 03:04:05 on 2026-01-02.</summary>
public sealed class ScheduleTests
{
    private const string First = "nightly-202601020305",
        Second = "nightly-202601020306",
        Third = "nightly-202601020307";

    [Fact]
    public async Task A_snapshot_is_created_when_due_and_follows_the_template()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(ScheduleObjects.Schedule("*/5 * * * *", s => s.Template.Spec.Capture = new CaptureSpec { Compression = "Lz4" }));
        await world.Step();
        Assert.Equal("True Scheduled: the next snapshot is created at status.nextScheduleTime", world.ScheduleCondition());
        Assert.Equal(new DateTime(2026, 1, 2, 3, 5, 0, DateTimeKind.Utc), world.Schedule().Status!.NextScheduleTime);
        world.ClockTo("2026-01-02T03:04:59");
        await world.Step();
        Assert.Empty(world.Snapshots());
        await world.Step();
        VMBackgroundSnapshot made = world.Snapshot(First);
        Assert.Equal(("db", "nightly"), (made.Metadata.Labels["app"], made.Metadata.Labels[Names.ScheduleLabel]));
        Assert.Equal(
            ("by the clock", "2026-01-02T03:05:00Z"),
            (made.Metadata.Annotations["note"], made.Metadata.Annotations[Names.ScheduledAtAnnotation])
        );
        Assert.Null(made.Metadata.OwnerReferences);
        Assert.Equal(
            ("db", "snapshots", "Lz4"),
            (made.Spec.Source.Name, made.Spec.Target.PersistentVolumeClaim!.ClaimName, made.Spec.Capture!.Compression)
        );
        ScheduleStatus status = world.Schedule().Status!;
        Assert.Equal(
            (new DateTime(2026, 1, 2, 3, 5, 0, DateTimeKind.Utc), First, new DateTime(2026, 1, 2, 3, 10, 0, DateTimeKind.Utc)),
            (status.LastScheduleTime, status.LastSnapshotName, status.NextScheduleTime)
        );
        Assert.Equal((SchedulePhase.Scheduled, 1L), (status.Phase, status.ObservedGeneration));
        Assert.Equal(["Normal SnapshotCreated"], world.Events("nightly"));
        await world.UntilPhase(First, SnapshotPhase.Ready);
        await world.Reconcile();
        status = world.Schedule().Status!;
        Assert.Equal((0, 1), (status.Active, status.Ready));
        Assert.Equal(world.Snapshot(First).Status!.CompletionTime, status.LastSuccessfulTime);
        Assert.Empty(world.Problems);
    }

    [Fact]
    public async Task Each_due_time_gets_one_snapshot_and_they_outlive_the_schedule()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(ScheduleObjects.Schedule("* * * * *"));
        await world.Steps(180);
        Assert.Equal([First, Second, Third], world.Snapshots());
        await world.Api.Delete(Resources.Schedules, World.Namespace, "nightly", null, null, default);
        await world.Steps(120);
        Assert.Equal([First, Second, Third], world.Snapshots());
        Assert.All(world.All(Resources.Snapshots), s => Assert.Equal(SnapshotPhase.Ready, s.Status!.Phase));
    }

    [Fact]
    public async Task Nothing_is_written_between_two_times()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(ScheduleObjects.Schedule("0 * * * *"));
        await world.Steps(3);
        world.Requests.Clear();
        await world.Steps(100);
        world.ClockTo("2026-01-02T03:59:00");
        await world.Steps(10);
        Assert.Empty(world.Requests);
    }

    [Fact]
    public async Task Of_the_due_times_missed_without_an_operator_the_latest_gets_a_snapshot()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(ScheduleObjects.Schedule("* * * * *"));
        await world.Steps(2);
        world.ClockTo("2026-01-02T03:07:30");
        await world.Restart();
        await world.Steps(1);
        Assert.Equal([Third], world.SnapshotsEver());
        Assert.Contains("Warning MissedRuns", world.Events("nightly"));
        Assert.StartsWith(
            "skipped 2 snapshots before that of 2026-01-02 03:07Z: they were due while no operator ran",
            world.EventObjects("nightly").Single(e => e.Reason == "MissedRuns").Message,
            StringComparison.Ordinal
        );
    }

    [Fact]
    public async Task A_late_snapshot_is_skipped_and_reported_once()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(ScheduleObjects.Schedule("0 * * * *", s => s.StartingDeadline = "10m"));
        await world.Steps(2);
        world.ClockTo("2026-01-02T04:10:01");
        await world.Steps(10);
        Assert.Empty(world.SnapshotsEver());
        Assert.Equal(["Warning MissedDeadline"], world.Events("nightly"));
        Assert.Equal(new DateTime(2026, 1, 2, 4, 0, 0, DateTimeKind.Utc), world.Schedule().Status!.LastSkippedTime);
        Assert.Null(world.Schedule().Status!.LastScheduleTime);
        world.ClockTo("2026-01-02T05:09:00");
        await world.Steps(1);
        Assert.Equal(["nightly-202601020500"], world.SnapshotsEver());
    }

    [Fact]
    public async Task With_Forbid_a_due_time_during_another_snapshot_is_skipped()
    {
        await using World world = await TestObjects.WithVm();
        world.Agents.Slow = true;
        await world.Add(ScheduleObjects.Schedule("* * * * *"));
        await world.Steps(125);
        Assert.Equal([First], world.SnapshotsEver());
        Assert.Equal(1, world.Schedule().Status!.Active);
        Assert.Equal(["Normal SnapshotCreated", "Warning StillUnderWay"], world.Events("nightly"));
        Assert.Equal(
            $"skipped the snapshot of 2026-01-02 03:06Z: {First} is still Capturing, and spec.concurrencyPolicy is Forbid",
            world.EventObjects("nightly").Last().Message
        );
        world.Agents.Slow = false;
        await world.Steps(40);
        Assert.Equal([First], world.SnapshotsEver());
        await world.Steps(20);
        Assert.Equal([First, Third], world.SnapshotsEver());
    }

    [Fact]
    public async Task With_Allow_the_snapshot_is_created_and_queued()
    {
        await using World world = await TestObjects.WithVm();
        world.Agents.Slow = true;
        await world.Add(ScheduleObjects.Schedule("* * * * *", s => s.ConcurrencyPolicy = ScheduleConcurrency.Allow));
        await world.Steps(125);
        Assert.Equal([First, Second], world.SnapshotsEver());
        Assert.Equal(SnapshotPhase.Queued, world.Snapshot(Second).Status!.Phase);
        Assert.Equal(2, world.Schedule().Status!.Active);
    }

    [Fact]
    public async Task Due_times_during_a_suspension_are_not_made_up_for()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(ScheduleObjects.Schedule("* * * * *", s => s.Suspend = true));
        await world.Steps(70);
        Assert.StartsWith("True Suspended", world.ScheduleCondition(), StringComparison.Ordinal);
        Assert.Equal((SchedulePhase.Suspended, null), (world.Schedule().Status!.Phase, world.Schedule().Status!.NextScheduleTime));
        await world.Change(new JsonObject { ["suspend"] = false });
        await world.Steps(2);
        Assert.Empty(world.SnapshotsEver());
        Assert.Empty(world.Events("nightly"));
        await world.Until(() => world.SnapshotsEver().Any(), "one is made");
        Assert.Equal([Second], world.SnapshotsEver());
    }

    [Fact]
    public async Task A_changed_expression_counts_from_now()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(ScheduleObjects.Schedule("0 4 * * *"));
        await world.Step();
        world.ClockTo("2026-01-02T05:30:00");
        await world.Until(() => world.SnapshotsEver().Any(), "the one of four");
        await world.UntilPhase("nightly-202601020400", SnapshotPhase.Ready);
        world.ClockTo("2026-01-02T12:30:30");
        await world.Change(new JsonObject { ["schedule"] = "0 * * * *" });
        await world.Steps(10);
        Assert.Equal(["nightly-202601020400"], world.SnapshotsEver());
        Assert.Equal("0 * * * * UTC", world.Schedule().Status!.EffectiveSchedule);
        Assert.Equal(new DateTime(2026, 1, 2, 13, 0, 0, DateTimeKind.Utc), world.Schedule().Status!.NextScheduleTime);
        await world.Change(new JsonObject { ["timeZone"] = "Asia/Kathmandu" }); // a quarter to
        await world.Steps(1);
        Assert.Equal(new DateTime(2026, 1, 2, 13, 15, 0, DateTimeKind.Utc), world.Schedule().Status!.NextScheduleTime);
    }

    [Fact]
    public async Task An_invalid_schedule_says_so_and_can_be_corrected()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(ScheduleObjects.Schedule("61 * * * *"));
        await world.Steps(3);
        Assert.StartsWith("False InvalidSchedule: spec.schedule \"61 * * * *\": ", world.ScheduleCondition(), StringComparison.Ordinal);
        Assert.StartsWith("True InvalidSchedule", world.ScheduleCondition(type: ConditionTypes.Stalled), StringComparison.Ordinal);
        Assert.Equal(SchedulePhase.Invalid, world.Schedule().Status!.Phase);
        Assert.Equal(["Warning InvalidSchedule"], world.Events("nightly"));
        await world.Change(new JsonObject { ["schedule"] = "* * * * *", ["timeZone"] = "Mars/Olympus" });
        await world.Steps(1);
        Assert.StartsWith("False InvalidTimeZone: spec.timeZone \"Mars/Olympus\"", world.ScheduleCondition(), StringComparison.Ordinal);
        await world.Change(new JsonObject { ["timeZone"] = null });
        await world.Until(() => world.SnapshotsEver().Any(), "one is made", 70);
        Assert.StartsWith("False", world.ScheduleCondition(type: ConditionTypes.Stalled), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_schedule_that_is_never_due_is_invalid()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(ScheduleObjects.Schedule("0 3 30 2 *"));
        await world.Steps(3);
        Assert.Equal(
            "False NeverDueAgain: spec.schedule \"0 3 30 2 *\" has no due time in the future: correct the day of the month or the month",
            world.ScheduleCondition()
        );
        Assert.StartsWith("True NeverDueAgain", world.ScheduleCondition(type: ConditionTypes.Stalled), StringComparison.Ordinal);
        Assert.Equal((SchedulePhase.Invalid, null), (world.Schedule().Status!.Phase, world.Schedule().Status!.NextScheduleTime));
        Assert.Equal(["Warning NeverDueAgain"], world.Events("nightly"));
        await world.Change(new JsonObject { ["schedule"] = "0 3 28 2 *" });
        await world.Steps(1);
        Assert.Equal(SchedulePhase.Scheduled, world.Schedule().Status!.Phase);
    }

    [Fact]
    public async Task A_foreign_snapshot_with_the_same_name_is_left_alone()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(TestObjects.Snapshot(First));
        await world.UntilPhase(First, SnapshotPhase.Ready);
        string uid = world.Snapshot(First).Metadata.Uid;
        await world.Add(ScheduleObjects.Schedule("* * * * *", s => s.Retention = new ScheduleRetention { Count = 1 }));
        await world.Until(() => world.Events("nightly").Any(), "something is said");
        Assert.Equal(["Warning NameTaken"], world.Events("nightly"));
        await world.UntilPhase(Third, SnapshotPhase.Ready);
        await world.Until(() => world.Find(Second) is null, "its own second is gone");
        Assert.Equal(uid, world.Snapshot(First).Metadata.Uid);
        Assert.Equal([First, Third], world.Snapshots());
    }

    [Fact]
    public async Task A_rejected_snapshot_is_reported_and_created_once_it_is_accepted()
    {
        await using World world = await TestObjects.WithVm();
        world.Fault = (_, r) => r is { Verb: "create", Plural: "vmbackgroundsnapshots" } ? Fault.Refused : Fault.None;
        await world.Add(ScheduleObjects.Schedule("* * * * *"));
        await world.Steps(70);
        Assert.Equal(
            "False RefusedByApiServer: the API server rejected the snapshot that is due: exceeded quota: " + "pods",
            world.ScheduleCondition()
        );
        Assert.Equal(["Warning RefusedByApiServer"], world.Events("nightly"));
        world.Fault = (_, _) => Fault.None;
        await world.Steps(3);
        Assert.Equal([First], world.SnapshotsEver());
        Assert.StartsWith("True Scheduled", world.ScheduleCondition(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Old_snapshots_are_deleted_with_their_files_only_once_a_new_one_is_Ready()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(ScheduleObjects.Schedule("* * * * *", s => s.Retention = new ScheduleRetention { Count = 1 }));
        await world.UntilPhase(First, SnapshotPhase.Ready);
        world.Agents.Slow = true;
        await world.Until(() => world.Find(Second)?.Status?.Progress?.Percent == 50, "half of the second is done");
        Assert.Equal([First, Second], world.Snapshots());
        world.Agents.Slow = false;
        await world.UntilPhase(Second, SnapshotPhase.Ready);
        await world.Until(() => world.Find(First) is null, "the first is gone", 30);
        Assert.Equal([world.Snapshot(Second).Status!.Directory!], world.Agents.Directories);
        Assert.Equal(
            $"{First}: the retention keeps 1 Ready " + "snapshots",
            world.EventObjects("nightly").Single(e => e.Reason == "SnapshotDeleted").Message
        );
        Assert.Equal(1, world.Schedule().Status!.Ready);
    }

    [Fact]
    public async Task A_snapshot_without_the_label_is_kept()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(ScheduleObjects.Schedule("* * * * *", s => s.Retention = new ScheduleRetention { Count = 1 }));
        await world.UntilPhase(First, SnapshotPhase.Ready);
        await world.Api.MergePatch(
            Resources.Snapshots,
            World.Namespace,
            First,
            null,
            new JsonObject { ["metadata"] = new JsonObject { ["labels"] = new JsonObject { [Names.ScheduleLabel] = null } } },
            default
        );
        await world.Steps(150);
        Assert.Equal(3, world.SnapshotsEver().Count());
        Assert.Equal([First, Third], world.Snapshots());
    }

    [Fact]
    public async Task A_snapshot_that_becomes_too_old_is_deleted_without_any_other_change()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(ScheduleObjects.Schedule("5,6 3 * * *", s => s.Retention = new ScheduleRetention { MaxAge = "3m" }));
        await world.UntilPhase(Second, SnapshotPhase.Ready);
        await world.Steps(3);
        Assert.Equal([First, Second], world.Snapshots());
        world.ClockTo("2026-01-02T03:08:30");
        await world.Steps(10);
        Assert.Equal([Second], world.Snapshots());
        world.ClockTo("2026-01-02T12:00:00");
        await world.Steps(10);
        Assert.Equal([Second], world.Snapshots()); // the last one stays
    }

    [Fact]
    public async Task A_limited_number_of_failed_snapshots_is_kept()
    {
        await using World world = await TestObjects.WithVm();
        world.Agents.CaptureFails = ("DiskFull", "no space left on claim snapshots");
        await world.Add(ScheduleObjects.Schedule("* * * * *", s => s.Retention = new ScheduleRetention { FailedCount = 1 }));
        await world.Steps(200);
        Assert.Equal(3, world.SnapshotsEver().Count());
        Assert.Equal([Third], world.Snapshots());
        Assert.Null(world.Schedule().Status!.LastSuccessfulTime);
        Assert.Equal(0, world.Schedule().Status!.Ready);
    }

    [Fact]
    public async Task A_snapshot_that_a_restore_reads_stays_until_the_restore_has_ended()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(ScheduleObjects.Schedule("* * * * *", s => s.Retention = new ScheduleRetention { Count = 1 }));
        await world.UntilPhase(First, SnapshotPhase.Ready);
        // It waits for a pod that does not exist.
        VMBackgroundRestore restore = RestoreObjects.IntoPod("r", "later");
        restore.Spec.SnapshotName = First;
        await world.Add(restore);
        await world.Until(() => world.Find(Third)?.Status?.Phase == SnapshotPhase.Ready, "the third is Ready", 200);
        await world.Until(() => world.Find(Second) is null, "the second, which nobody reads, is gone");
        Assert.Null(world.Snapshot(First).Metadata.DeletionTimestamp);
        await world.DeleteRestore("r");
        await world.Until(() => world.Find(First) is null, "the first is gone", 100);
    }

    [Fact]
    public async Task A_snapshot_with_a_foreign_finalizer_stays()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(ScheduleObjects.Schedule("* * * * *", s => s.Retention = new ScheduleRetention { Count = 1 }));
        await world.UntilPhase(First, SnapshotPhase.Ready);
        await world.Api.MergePatch(
            Resources.Snapshots,
            World.Namespace,
            First,
            null,
            new JsonObject { ["metadata"] = new JsonObject { ["finalizers"] = new JsonArray(Names.Finalizer, "example.org/backup") } },
            default
        );
        await world.Steps(130);
        Assert.Null(world.Snapshot(First).Metadata.DeletionTimestamp);
    }
}
