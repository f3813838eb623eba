using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>Reads the results of a finished snapshot from its manifest, for the task's status.</summary>
internal static class FinishedSnapshot
{
    /// <summary>Reads a snapshot's manifest; null: no snapshot has that name.</summary>
    /// <exception cref="SnapshotCorruptException">The snapshot is damaged.</exception>
    internal static SnapshotTaskStatus? Read(SafeFileHandle claim, string directory)
    {
        string path = Path.Join(OpenInRoot.PathOf(claim), directory);
        if (!Directory.Exists(path))
            return null;
        using SnapshotDirectory snapshot = SnapshotDirectory.Open(path);
        using SafeFileHandle place = SnapshotFiles.OpenDirectory(null, path);
        byte[] bytes = SnapshotFiles.ReadSmall(
            place,
            FormatV1.ManifestFileName,
            Path.Join(path, FormatV1.ManifestFileName),
            FormatV1.MaxManifestSize
        );
        Manifest m = snapshot.Manifest;
        return new SnapshotTaskStatus
        {
            Phase = TaskPhase.Succeeded,
            Percent = 100,
            PointInTime = m.PointInTime.UtcDateTime,
            Result = new CaptureResult
            {
                DowntimeMicroseconds = m.Capture.DowntimeMicroseconds,
                ProtectionWindowMicroseconds = m.Capture.ProtectionWindowMicroseconds,
                TotalMicroseconds = m.Capture.TotalMicroseconds,
                Faults = m.Capture.Faults.Count,
                FaultP50Microseconds = m.Capture.Faults.P50Microseconds,
                FaultP99Microseconds = m.Capture.Faults.P99Microseconds,
                FaultMaxMicroseconds = m.Capture.Faults.MaxMicroseconds,
                RamBytes = m.Ram.Blocks.Sum(b => (long)b.UsedLength),
                StoredBytes = m.Files.Sum(f => f.Size) + bytes.Length,
                Engine = m.Capture.Engine == "qemu" ? "Qemu" : "Agent",
                EngineReason = m.Capture.EngineReason,
                Indications = Indications(m.Capture),
                DiskMethod = m.Capture.DiskMethod is { } method ? MethodOf(method) : null,
                DiskMethodReason = m.Capture.DiskMethodReason,
                Disks = DisksOf(m.Disks),
                ManifestChecksum = "sha256:" + Sha256.HexOf(bytes),
            },
        };
    }

    // As in KubeVirt: Online says that the machine ran, the other indication says how consistent it was.
    internal static List<string> Indications(ManifestCapture capture) =>
        capture.Paused ? [SnapshotIndication.Online, SnapshotIndication.Paused]
        : capture.Quiesce is not { } quiesce || quiesce == SnapshotIndication.Online ? [SnapshotIndication.Online]
        : [SnapshotIndication.Online, quiesce];

    /// <summary>The disks in the form of a task's status.</summary>
    internal static List<DiskStatus> DisksOf(IEnumerable<ManifestDisk> disks) => [.. disks.Select(DiskOf)];

    private static DiskStatus DiskOf(ManifestDisk disk) =>
        new()
        {
            Name = disk.Name,
            VirtualSize = disk.VirtualSize,
            StoredBytes = disk.StoredBytes,
            Method = MethodOf(disk.Method),
            Note = disk is { File: not null, Decrypted: true } ? "encrypted in the VM, stored decrypted" : disk.Note,
            VolumeSnapshotName = disk.VolumeSnapshot,
            Driver = disk.Image?.Driver,
            Path = disk.Image?.Filename,
        };

    private static string MethodOf(string method) =>
        method switch
        {
            DiskMethods.CopyBeforeWrite => DiskCaptureMethod.CopyBeforeWrite,
            DiskMethods.Overlay => DiskCaptureMethod.Overlay,
            DiskMethods.VolumeSnapshot => DiskCaptureMethod.VolumeSnapshot,
            DiskMethods.None => DiskCaptureMethod.None,
            _ => method,
        };
}
