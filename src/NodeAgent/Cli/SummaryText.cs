using System.Globalization;
using System.Text.Json;
using Bgsnap.Engine.Capture;
using Bgsnap.NodeAgent.Processes;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>The table at the end of a capture.</summary>
internal static class SummaryText
{
    internal static int Write(SummaryLine line, bool json)
    {
        if (json)
        {
            Console.Out.WriteLine(JsonSerializer.Serialize(line, MessagesJson.Default.SummaryLine));
            return ExitCode.Success;
        }
        CaptureSummary s = line.Summary;
        Row("Snapshot", s.Output);
        Row("Point in time", s.PointInTime.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'", CultureInfo.InvariantCulture));
        Row("Downtime", Downtime(s.DowntimeMicroseconds, s.StopWindow));
        Row("Protection window", Quantity.FormatTime(s.ProtectionWindowMicroseconds));
        Row("Total", Quantity.FormatTime(s.TotalMicroseconds));
        Row(
            "Faults",
            s.FaultP50Microseconds is { } p50
                ? $"{s.Faults} (p50 {Quantity.FormatTime(p50)}, p99 {Quantity.FormatTime(s.FaultP99Microseconds ?? 0)}, max "
                    + $"{Quantity.FormatTime(s.FaultMaxMicroseconds ?? 0)})"
                : "served inside QEMU, which does not count them"
        );
        Row("RAM", Quantity.FormatSize(s.RamBytes));
        foreach (ManifestDisk d in s.Disks)
        {
            Row(
                $"Disk {d.Name}",
                d.VolumeSnapshot is { } v ? $"{Quantity.FormatSize(d.VirtualSize)}, VolumeSnapshot {v}"
                    : d.File is not null ? $"{Quantity.FormatSize(d.VirtualSize)}, {Quantity.FormatSize(d.StoredBytes)} stored ({d.Method})"
                    : $"{Quantity.FormatSize(d.VirtualSize)}, not captured: {d.Note}"
            );
        }
        Row("Stored", Quantity.FormatSize(s.StoredBytes));
        Row("Quiesce", s.QuiesceDetail is { } detail ? $"{s.Quiesce} ({detail})" : s.Quiesce.ToString());
        Row("Engine", $"{s.Engine} ({s.EngineReason})");
        return ExitCode.Success;
    }

    /// <summary>The downtime and its parts.</summary>
    internal static string Downtime(long microseconds, ManifestStopWindow? parts)
    {
        string whole = Quantity.FormatTime(microseconds);
        return parts is null
            ? whole
            : $"{whole} (stop {Quantity.FormatTime(parts.StopMicroseconds)}, disks {Quantity.FormatTime(parts.DisksMicroseconds)}, "
                + $"devices {Quantity.FormatTime(parts.DevicesMicroseconds)}, protect {Quantity.FormatTime(parts.ProtectMicroseconds)}, "
                + $"cont {Quantity.FormatTime(parts.ContMicroseconds)})";
    }

    private static void Row(string name, string value) => Console.Out.WriteLine($"{name, -18} {value}");
}
