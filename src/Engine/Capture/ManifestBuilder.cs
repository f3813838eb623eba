using Bgsnap.Engine.Disks.Graph;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Engine.Capture;

/// <summary>Builds the manifest from what a capture knows.</summary>
internal static class ManifestBuilder
{
    internal static string Version { get; } = $"bgsnap-agent {typeof(ManifestBuilder).Assembly.GetName().Version?.ToString(3)}";

    internal static Manifest Capture(
        Guid id,
        CaptureOptions options,
        QemuProcess qemu,
        CaptureSummary s,
        DiskRecords disks,
        PageLogSummary stored,
        IReadOnlyList<ManifestRamBlock> blocks
    ) =>
        new()
        {
            Id = id,
            Name = Path.GetFileName(s.Output),
            CreatedBy = Version,
            PointInTime = s.PointInTime,
            Source = new ManifestSource
            {
                Pid = qemu.Pid,
                QmpSocket = options.Monitor.QmpSocket,
                VmName = qemu.Name,
                Uuid = qemu.Uuid,
            },
            Machine = new ManifestMachine
            {
                Type = qemu.MachineType,
                QemuVersion = qemu.QemuVersion,
                Arguments = qemu.Arguments,
                Devices = qemu.Devices is { } devices ? [.. devices.Select(Device)] : null,
            },
            Capture = new ManifestCapture
            {
                Engine = s.Engine,
                EngineReason = s.EngineReason,
                Compression = options.Compression switch
                {
                    PageCompression.Lz4 => "lz4",
                    PageCompression.Zstd => "zstd",
                    _ => "none",
                },
                DowntimeMicroseconds = s.DowntimeMicroseconds,
                ProtectionWindowMicroseconds = s.ProtectionWindowMicroseconds,
                TotalMicroseconds = s.TotalMicroseconds,
                Faults = new ManifestFaults
                {
                    Count = s.Faults,
                    P50Microseconds = s.FaultP50Microseconds,
                    P99Microseconds = s.FaultP99Microseconds,
                    MaxMicroseconds = s.FaultMaxMicroseconds,
                },
                StopWindow = s.StopWindow,
                Timeline = s.Timeline,
                Quiesce = s.Quiesce.ToString(),
                Paused = s.Paused,
                After = options.After.ToString(),
                DiskMethod = disks.Method,
            },
            Disks = disks.Disks,
            Files = disks.Files,
            Ram = ManifestRam.From(stored, blocks),
        };

    /// <summary>How a snapshot records a device.</summary>
    internal static ManifestDevice Device(PciDevice device) =>
        new(device.Path, device.Type)
        {
            Id = device.Id,
            PciId = device.PciId,
            Properties = device.Properties,
        };
}
