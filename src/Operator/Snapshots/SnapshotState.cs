using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;

namespace Bgsnap.Operator.Snapshots;

/// <summary>The states of a snapshot, each with all its conditions.</summary>
internal static class SnapshotState
{
    /// <summary>The snapshot makes progress, or waits for something that may still appear.</summary>
    public static void Reconciling(
        VMBackgroundSnapshot snapshot,
        SnapshotStatus status,
        string phase,
        string reason,
        string message,
        DateTimeOffset now
    ) => KStatus.Reconciling(status, snapshot.Metadata.Generation, phase, reason, message, now);

    /// <summary>The snapshot has failed. The guest runs on.</summary>
    public static void Failed(VMBackgroundSnapshot snapshot, SnapshotStatus status, string reason, string message, DateTimeOffset now)
    {
        status.CompletionTime = Conditions.WholeSecond(now);
        KStatus.Failed(status, snapshot.Metadata.Generation, SnapshotPhase.Failed, reason, message, now);
    }

    /// <summary>The snapshot is complete on its claim.</summary>
    public static void Ready(VMBackgroundSnapshot snapshot, SnapshotStatus status, DateTimeOffset now)
    {
        status.CompletionTime = Conditions.WholeSecond(now);
        KStatus.Ready(
            status,
            snapshot.Metadata.Generation,
            SnapshotPhase.Ready,
            Reasons.SnapshotReady,
            $"written to {status.Directory} on claim {status.ClaimName}",
            now
        );
    }

    /// <summary>The instant that the snapshot shows is known.</summary>
    public static void PointInTime(VMBackgroundSnapshot snapshot, SnapshotStatus status, DateTime instant, DateTimeOffset now)
    {
        status.PointInTime = instant;
        Conditions.Set(
            status,
            ConditionTypes.PointInTime,
            true,
            Reasons.Fixed,
            $"the snapshot shows the guest at {instant:yyyy-MM-dd'T'HH:mm:ss.fff'Z'}",
            snapshot.Metadata.Generation ?? 0,
            now
        );
    }
}
