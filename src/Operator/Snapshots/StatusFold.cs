using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;

namespace Bgsnap.Operator.Snapshots;

/// <summary>Copies what the agent reports on a task to the snapshot's status. Pure.</summary>
internal static class StatusFold
{
    /// <summary>Copies the progress of a running task.</summary>
    public static void Progress(VMBackgroundSnapshot snapshot, SnapshotStatus status, SnapshotTaskStatus task, DateTimeOffset now)
    {
        int percent = task.Percent ?? 0;
        status.Progress = new CaptureProgressStatus
        {
            Percent = percent,
            Text = $"{percent}%",
            Bytes = task.Bytes,
            BytesPerSecond = task.BytesPerSecond,
        };
        if (task.PointInTime is { } instant && status.PointInTime is null)
            SnapshotState.PointInTime(snapshot, status, instant, now);
    }

    /// <summary>Copies the measurements of a task that succeeded.</summary>
    public static void Result(VMBackgroundSnapshot snapshot, SnapshotStatus status, SnapshotTaskStatus task, DateTimeOffset now)
    {
        if (task.PointInTime is { } instant)
            SnapshotState.PointInTime(snapshot, status, instant, now);
        CaptureResult r = task.Result ?? new CaptureResult();
        status.Progress = new CaptureProgressStatus
        {
            Percent = 100,
            Text = "100%",
            Bytes = r.RamBytes,
        };
        status.Downtime = r.DowntimeMicroseconds is { } d ? Durations.Text(d) : null;
        status.ProtectionWindow = r.ProtectionWindowMicroseconds is { } w ? Durations.Text(w) : null;
        status.Faults = r.Faults;
        status.Engine = r.Engine;
        status.EngineReason = r.EngineReason;
        (status.Indications, status.DiskMethod, status.DiskMethodReason, status.Disks) = (
            r.Indications,
            r.DiskMethod,
            r.DiskMethodReason,
            r.Disks
        );
        status.RamBytes = r.RamBytes;
        status.StoredBytes = r.StoredBytes;
        status.Size = r.StoredBytes is { } bytes ? Durations.Size(bytes) : null;
        status.ManifestChecksum = r.ManifestChecksum;
        SnapshotState.Ready(snapshot, status, now);
    }
}
