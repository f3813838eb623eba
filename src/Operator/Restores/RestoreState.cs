using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;

namespace Bgsnap.Operator.Restores;

/// <summary>The states of a restore, each with all its conditions.</summary>
internal static class RestoreState
{
    /// <summary>
    /// The restore makes progress, or waits for something that may still appear. If the guest already runs, it stays Ready and only
    /// condition Resident reports the wait.
    /// </summary>
    public static void Reconciling(
        VMBackgroundRestore restore,
        RestoreStatus status,
        string phase,
        string reason,
        string message,
        DateTimeOffset now
    )
    {
        if (HasRun(status))
            Starved(restore, status, reason, message, now);
        else
            KStatus.Reconciling(status, restore.Metadata.Generation, phase, reason, message, now);
    }

    /// <summary>The restore has failed.</summary>
    public static void Failed(VMBackgroundRestore restore, RestoreStatus status, string reason, string message, DateTimeOffset now)
    {
        status.CompletionTime = Conditions.WholeSecond(now);
        KStatus.Failed(status, restore.Metadata.Generation, RestorePhase.Failed, reason, message, now);
    }

    /// <summary>The guest runs and has all its RAM.</summary>
    public static void Ready(VMBackgroundRestore restore, RestoreStatus status, SnapshotTaskStatus task, DateTimeOffset now)
    {
        Runs(restore, status, RestorePhase.Ready, task, NonEmpty(task.Reason) ?? Reasons.GuestRuns, NonEmpty(task.Message), now);
        status.Progress = new RestoreProgress
        {
            Percent = 100,
            Text = "100%",
            Bytes = task.Result?.RamBytes ?? task.Bytes,
        };
        SetResident(
            restore,
            status,
            true,
            Reasons.AllRamArrived,
            $"all RAM of the guest has arrived; the volume of snapshot {restore.Spec.SnapshotName} is no longer needed",
            now
        );
    }

    /// <summary>The guest runs while its RAM arrives; a reason from the agent says why it does not.</summary>
    public static void Running(VMBackgroundRestore restore, RestoreStatus status, SnapshotTaskStatus task, DateTimeOffset now)
    {
        Runs(restore, status, RestorePhase.Running, task, Reasons.GuestRuns, null, now);
        int percent = task.Percent ?? 0;
        status.Progress = new RestoreProgress
        {
            Percent = percent,
            Text = $"resident {percent}%",
            Bytes = task.Bytes,
            BytesPerSecond = task.BytesPerSecond,
        };
        if (percent >= 100)
            SetResident(restore, status, true, Reasons.AllRamArrived, "all RAM of the guest has arrived", now);
        else
            SetResident(
                restore,
                status,
                false,
                NonEmpty(task.Reason) ?? Reasons.RamArrives,
                NonEmpty(task.Message)
                    ?? "RAM arrives in the background and when the guest touches it; the volume of snapshot "
                        + $"{restore.Spec.SnapshotName} is needed until all of it has arrived",
                now
            );
    }

    /// <summary>The guest runs, but its RAM does not arrive.</summary>
    public static void Starved(VMBackgroundRestore restore, RestoreStatus status, string reason, string message, DateTimeOffset now)
    {
        KStatus.Ready(status, restore.Metadata.Generation, RestorePhase.Running, Reasons.GuestRuns, Where(restore, status), now);
        SetResident(restore, status, false, reason, message, now);
    }

    /// <summary>Whether the guest has run: from then on what we created belongs to the user.</summary>
    public static bool HasRun(RestoreStatus status) => Conditions.Get(status, ConditionTypes.Resident) is not null;

    private static void Runs(
        VMBackgroundRestore restore,
        RestoreStatus status,
        string phase,
        SnapshotTaskStatus task,
        string reason,
        string? but,
        DateTimeOffset now
    )
    {
        CaptureResult measured = task.Result ?? new CaptureResult();
        status.CompletionTime ??= Conditions.WholeSecond(now);
        // A task that continues the work of a dead one did not see its start.
        status.TimeToRun = measured.TimeToRunMicroseconds is { } us ? status.TimeToRun ?? Durations.Text(us) : status.TimeToRun;
        (status.Mode, status.ModeReason) = (measured.RestoreMode ?? status.Mode, measured.RestoreModeReason ?? status.ModeReason);
        if (measured.Faults is { } count)
            status.Faults = new RestoreFaults
            {
                Count = count,
                P50 = Text(measured.FaultP50Microseconds),
                P99 = Text(measured.FaultP99Microseconds),
                Max = Text(measured.FaultMaxMicroseconds),
            };
        KStatus.Ready(
            status,
            restore.Metadata.Generation,
            phase,
            reason,
            Where(restore, status) + (but is null ? "" : $", but {but}"),
            now
        );
    }

    private static string Where(VMBackgroundRestore restore, RestoreStatus status) =>
        $"the guest of snapshot {restore.Spec.SnapshotName} runs in pod {status.PodName} on node {status.NodeName}";

    // A merge patch that clears a text leaves an empty string.
    private static string? NonEmpty(string? text) => text is { Length: > 0 } ? text : null;

    private static string? Text(long? microseconds) => microseconds is { } us ? Durations.Text(us) : null;

    private static void SetResident(
        VMBackgroundRestore restore,
        RestoreStatus status,
        bool value,
        string reason,
        string message,
        DateTimeOffset now
    ) => Conditions.Set(status, ConditionTypes.Resident, value, reason, message, restore.Metadata.Generation ?? 0, now);

    /// <summary>The disks are on their claims and are never written again.</summary>
    public static void DisksRestored(VMBackgroundRestore restore, RestoreStatus status, DateTimeOffset now) =>
        Conditions.Set(
            status,
            ConditionTypes.DisksRestored,
            true,
            Reasons.Written,
            $"the disks of snapshot {restore.Spec.SnapshotName} are on {string.Join(", ", (status.Claims ?? []).Select(c => c.Name))}",
            restore.Metadata.Generation ?? 0,
            now
        );

    /// <summary>Whether the disks are on their claims.</summary>
    public static bool HasDisks(RestoreStatus status) => Conditions.Get(status, ConditionTypes.DisksRestored)?.Status == "True";
}
