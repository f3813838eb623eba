using System.Globalization;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Events;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Operator.Schedules;

/// <summary>
/// Creates the snapshot that is due, and deletes those that retention does not keep. A snapshot's name contains its due time. If the
/// operator crashes between creating it and saving the status, the next call finds that snapshot and creates no second one.
/// </summary>
internal sealed class ScheduleReconciler(ScheduleStore store, EventRecorder events, TimeProvider clock, ILogger<ScheduleReconciler> log)
    : IReconciler
{
    // A changed clock, or a machine that slept, must not delay a snapshot by more than this.
    private static readonly TimeSpan LookAgain = TimeSpan.FromMinutes(5);

    /// <inheritdoc/>
    public async Task<TimeSpan?> Reconcile(ObjectKey key, CancellationToken stop)
    {
        if (store.Find(key) is not { } schedule)
        {
            ScheduleMetrics.Forget(key);
            return null;
        }
        if (schedule.Metadata.DeletionTimestamp is not null)
            return null;

        ScheduleStatus status = StatusPatch.Copy(schedule.Status, BgsnapJson.Default.ScheduleStatus);
        try
        {
            await Advance(key, schedule, status, stop).ConfigureAwait(false);
        }
        catch (InvalidScheduleException e)
        {
            status.NextScheduleTime = null;
            KStatus.Failed(status, schedule.Metadata.Generation, SchedulePhase.Invalid, e.Reason, e.Message, clock.GetUtcNow());
        }
        catch (ApiException e) when (e.IsInvalid)
        {
            // The API server would reject it again: a quota, an admission policy or a namespace that is being deleted.
            KStatus.Reconciling(
                status,
                schedule.Metadata.Generation,
                SchedulePhase.Scheduled,
                Reasons.RefusedByApiServer,
                $"the API server rejected the snapshot that is due: {e.Message}",
                clock.GetUtcNow()
            );
            await Save(schedule, status, stop).ConfigureAwait(false);
            if (e.IsNamespaceTerminating)
                return null;
            throw;
        }
        Count(key, status);
        await Save(schedule, status, stop).ConfigureAwait(false);
        await Tidy(key, schedule, stop).ConfigureAwait(false);
        return Again(key, schedule, status);
    }

    private async Task Advance(ObjectKey key, VMBackgroundSnapshotSchedule schedule, ScheduleStatus status, CancellationToken stop)
    {
        DateTimeOffset now = clock.GetUtcNow();

        // 1. Parse the schedule, and note since when it applies.
        CronSchedule cron = CronSchedule.Parse(schedule.Spec.Schedule, schedule.Spec.TimeZone);
        SchedulePlan.TakeEffect(cron, schedule, status, now);
        if (schedule.Spec.Suspend == true)
        {
            status.NextScheduleTime = null;
            KStatus.Ready(
                status,
                schedule.Metadata.Generation,
                SchedulePhase.Suspended,
                Reasons.Suspended,
                "spec.suspend is true: no snapshots are created",
                now
            );
            return;
        }

        // 2. Create the snapshot that is due.
        SchedulePlan plan = SchedulePlan.Of(cron, schedule.Spec, status, now);
        if (plan.Due is { } due)
            await Make(key, schedule, status, plan, due, stop).ConfigureAwait(false);

        // 3. Note the next due time. A cron expression has no years: one that is not due again never was.
        if (plan.Next is null)
            throw new InvalidScheduleException(
                Reasons.NeverDueAgain,
                $"spec.schedule \"{schedule.Spec.Schedule}\" has no due time in the future: correct the day of the month or the month"
            );
        status.NextScheduleTime = plan.Next.Value.UtcDateTime;
        KStatus.Ready(
            status,
            schedule.Metadata.Generation,
            SchedulePhase.Scheduled,
            Reasons.Scheduled,
            "the next snapshot is created at status.nextScheduleTime",
            now
        );
    }

    private async Task Make(
        ObjectKey key,
        VMBackgroundSnapshotSchedule schedule,
        ScheduleStatus status,
        SchedulePlan plan,
        DateTimeOffset due,
        CancellationToken stop
    )
    {
        string name = ScheduledSnapshot.NameFor(schedule, due),
            when = due.UtcDateTime.ToString("yyyy-MM-dd HH:mm'Z'", CultureInfo.InvariantCulture);
        // We may have created it before a crash: then it must not count as the one still under way, nor as too late.
        bool made = store.FindSnapshot(key.Namespace, name) is { } known && ScheduledSnapshot.IsOf(known, key.Namespace, key.Name);
        if (!made && plan.TooLate)
        {
            await LeaveOut(
                    "late",
                    Reasons.MissedDeadline,
                    $"skipped the snapshot of {when}: it is later than spec.startingDeadline ({schedule.Spec.StartingDeadline}) allows"
                )
                .ConfigureAwait(false);
        }
        else if (
            !made
            && schedule.Spec.ConcurrencyPolicy != ScheduleConcurrency.Allow
            && store.SnapshotsOf(key).FirstOrDefault(IsUnderWay) is { } other
        )
        {
            await LeaveOut(
                    "skipped",
                    Reasons.StillUnderWay,
                    $"skipped the snapshot of {when}: {other.Metadata.Name} is still "
                        + $"{other.Status?.Phase ?? SnapshotPhase.Pending}, and spec.concurrencyPolicy is Forbid"
                )
                .ConfigureAwait(false);
        }
        else
        {
            VMBackgroundSnapshot snapshot = await store.MakeSnapshot(ScheduledSnapshot.Build(schedule, due), stop).ConfigureAwait(false);
            if (!ScheduledSnapshot.IsOf(snapshot, key.Namespace, key.Name))
            {
                await LeaveOut(
                        "refused",
                        Reasons.NameTaken,
                        $"skipped the snapshot of {when}: VMBackgroundSnapshot {name} exists and was not created by this schedule"
                    )
                    .ConfigureAwait(false);
            }
            else
            {
                (status.LastScheduleTime, status.LastSnapshotName) = (due.UtcDateTime, name);
                ScheduleMetrics.Ran(key, "created");
                log.LogInformation("{Schedule}: created {Snapshot}, due {Due}", key, name, when);
                await events.Normal(schedule, Reasons.SnapshotCreated, $"{name}, due {when}", stop).ConfigureAwait(false);
            }
        }
        if (plan.Missed == 0)
            return;
        ScheduleMetrics.Ran(key, "missed", plan.Missed);
        await events
            .Warning(
                schedule,
                Reasons.MissedRuns,
                $"skipped {plan.Missed} snapshots before that of {when}: they were due while no " + "operator ran",
                stop
            )
            .ConfigureAwait(false);

        async Task LeaveOut(string result, string reason, string message)
        {
            status.LastSkippedTime = due.UtcDateTime;
            ScheduleMetrics.Ran(key, result);
            log.LogInformation("{Schedule}: {Message}", key, message);
            await events.Warning(schedule, reason, message, stop).ConfigureAwait(false);
        }
    }

    private static bool IsUnderWay(VMBackgroundSnapshot snapshot) =>
        snapshot.Metadata.DeletionTimestamp is null && !SnapshotPhase.IsTerminal(snapshot.Status?.Phase);

    private void Count(ObjectKey key, ScheduleStatus status)
    {
        List<VMBackgroundSnapshot> snapshots = store.SnapshotsOf(key);
        List<VMBackgroundSnapshot> ready =
        [
            .. snapshots.Where(s => s.Status?.Phase == SnapshotPhase.Ready && s.Metadata.DeletionTimestamp is null),
        ];
        (status.Active, status.Ready) = (snapshots.Count(IsUnderWay), ready.Count);
        // The latest Ready snapshot may have been deleted since, so the time never goes back.
        DateTime? latest = ready.Max(s => s.Status!.CompletionTime);
        if (latest is not null && !(status.LastSuccessfulTime >= latest))
            status.LastSuccessfulTime = latest;
        ScheduleMetrics.Succeeded(key, status.LastSuccessfulTime);
    }

    private async Task Save(VMBackgroundSnapshotSchedule schedule, ScheduleStatus status, CancellationToken stop)
    {
        string? before = Conditions.Get(schedule.Status, ConditionTypes.Ready)?.Reason;
        if (StatusPatch.Between(schedule.Status, status, BgsnapJson.Default.ScheduleStatus) is { } patch)
            await store.PatchStatus(schedule, patch, stop).ConfigureAwait(false);
        if (Conditions.Get(status, ConditionTypes.Ready) is { Status: "False" } bad && bad.Reason != before)
            await events.Warning(schedule, bad.Reason, bad.Message, stop).ConfigureAwait(false);
    }

    // Last, because nothing depends on it: the next call finds what a crash leaves.
    private async Task Tidy(ObjectKey key, VMBackgroundSnapshotSchedule schedule, CancellationToken stop)
    {
        foreach (Retention.Excess excess in Retention.Of(schedule.Spec.Retention, store.SnapshotsOf(key), store.IsInUse, clock.GetUtcNow()))
        {
            await store.Delete(excess.Snapshot, stop).ConfigureAwait(false);
            await events
                .Normal(schedule, Reasons.SnapshotDeleted, $"{excess.Snapshot.Metadata.Name}: {excess.Why}", stop)
                .ConfigureAwait(false);
        }
    }

    private TimeSpan Again(ObjectKey key, VMBackgroundSnapshotSchedule schedule, ScheduleStatus status)
    {
        DateTimeOffset now = clock.GetUtcNow(),
            at = now + LookAgain;
        if (status.NextScheduleTime is { } next && next < at)
            at = next;
        if (Retention.NextExpiry(schedule.Spec.Retention, store.SnapshotsOf(key), now) is { } expiry && expiry < at)
            at = expiry + TimeSpan.FromSeconds(1);
        return at > now ? at - now : TimeSpan.FromMilliseconds(100);
    }
}
