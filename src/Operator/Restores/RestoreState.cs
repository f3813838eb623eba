using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Snapshots;

namespace Bgsnap.Operator.Restores;

/// <summary>What a restore's status can say, each with all its conditions.</summary>
internal static class RestoreState
{
    /// <summary>Reason of a restore that is Ready and leaves nothing to be done by hand.</summary>
    public const string GuestRuns = "GuestRuns";

    /// <summary>It goes on, or waits for something that may still come.</summary>
    public static void Going(VMBackgroundRestore restore, RestoreStatus status, string phase, string reason, string message, DateTimeOffset now) =>
        KStatus.Going(status, restore.Metadata.Generation, phase, reason, message, now);

    /// <summary>It was given up.</summary>
    public static void Failed(VMBackgroundRestore restore, RestoreStatus status, string reason, string message, DateTimeOffset now)
    {
        status.CompletionTime = Conditions.WholeSecond(now);
        KStatus.Failed(status, restore.Metadata.Generation, RestorePhase.Failed, reason, message, now);
    }

    /// <summary>The guest runs.</summary>
    public static void Ready(VMBackgroundRestore restore, RestoreStatus status, SnapshotTaskStatus task, DateTimeOffset now)
    {
        status.CompletionTime = Conditions.WholeSecond(now);
        status.TimeToRun = task.Result?.TimeToRunMicroseconds is { } us ? Durations.Text(us) : null;
        status.Progress = new RestoreProgress { Percent = 100, Text = "100%", Bytes = task.Result?.RamBytes ?? task.Bytes };
        KStatus.Ready(
            status, restore.Metadata.Generation, RestorePhase.Ready, task.Reason ?? GuestRuns,
            $"the guest of snapshot {restore.Spec.SnapshotName} runs in pod {status.PodName} on node {status.NodeName}{(task.Message is { } but ? $", but {but}" : "")}", now);
    }

    /// <summary>The claims hold the disks: they are never written again.</summary>
    public static void DisksRestored(VMBackgroundRestore restore, RestoreStatus status, DateTimeOffset now) => Conditions.Set(
        status, ConditionTypes.DisksRestored, true, "Written", $"the disks of snapshot {restore.Spec.SnapshotName} are on {string.Join(", ", (status.Claims ?? []).Select(c => c.Name))}",
        restore.Metadata.Generation ?? 0, now);

    /// <summary>Whether they do.</summary>
    public static bool HasDisks(RestoreStatus status) => Conditions.Get(status, ConditionTypes.DisksRestored)?.Status == "True";
}
