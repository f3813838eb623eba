using Bgsnap.Crds.V1Alpha1;

namespace Bgsnap.Operator.Snapshots;

/// <summary>The three things a snapshot's status can say, each with all its conditions.</summary>
internal static class SnapshotState
{
    /// <summary>It goes on, or waits for something that may still come.</summary>
    public static void Going(
        VMBackgroundSnapshot snapshot,
        SnapshotStatus status,
        string phase,
        string reason,
        string message,
        DateTimeOffset now
    ) => KStatus.Going(status, snapshot.Metadata.Generation, phase, reason, message, now);

    /// <summary>It was given up. The guest runs on.</summary>
    public static void Failed(VMBackgroundSnapshot snapshot, SnapshotStatus status, string reason, string message, DateTimeOffset now)
    {
        status.CompletionTime = Conditions.WholeSecond(now);
        KStatus.Failed(status, snapshot.Metadata.Generation, SnapshotPhase.Failed, reason, message, now);
    }

    /// <summary>It is whole and on its claim.</summary>
    public static void Ready(VMBackgroundSnapshot snapshot, SnapshotStatus status, DateTimeOffset now)
    {
        status.CompletionTime = Conditions.WholeSecond(now);
        KStatus.Ready(
            status,
            snapshot.Metadata.Generation,
            SnapshotPhase.Ready,
            "SnapshotReady",
            $"written to {status.Directory} on claim {status.ClaimName}",
            now
        );
    }

    /// <summary>The instant that it shows is fixed.</summary>
    public static void PointInTime(VMBackgroundSnapshot snapshot, SnapshotStatus status, DateTime instant, DateTimeOffset now)
    {
        status.PointInTime = instant;
        Conditions.Set(
            status,
            ConditionTypes.PointInTime,
            true,
            "Fixed",
            $"the snapshot shows the guest at {instant:yyyy-MM-dd'T'HH:mm:ss.fff'Z'}",
            snapshot.Metadata.Generation ?? 0,
            now
        );
    }
}
