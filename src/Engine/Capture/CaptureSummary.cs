using System.Text.Json.Serialization;
using Bgsnap.Qemu.GuestAgent;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Engine.Capture;

/// <summary>Summary of a finished capture; printed at the end and kept in the manifest.</summary>
/// <param name="Output">The snapshot's directory.</param>
/// <param name="PointInTime">The instant the snapshot shows.</param>
/// <param name="Engine"><c>agent</c> or <c>qemu</c>.</param>
/// <param name="EngineReason">Why this engine was chosen.</param>
/// <param name="DowntimeMicroseconds">Length of the stop window between QEMU's own STOP and RESUME; 0 for a guest that was paused.</param>
/// <param name="ProtectionWindowMicroseconds">From the point in time until the last page was unprotected.</param>
/// <param name="TotalMicroseconds">From the start of the command until the snapshot had its final name.</param>
/// <param name="Faults">Guest writes that had to wait.</param>
/// <param name="FaultP50Microseconds">Median service time; null where the engine does not show it.</param>
/// <param name="FaultP99Microseconds">99th percentile of the service time.</param>
/// <param name="FaultMaxMicroseconds">Longest service time.</param>
/// <param name="RamBytes">Bytes of guest RAM.</param>
/// <param name="StoredBytes">Bytes stored for that RAM.</param>
/// <param name="HotPathAllocatedBytes">Bytes that the copy, fault and file threads allocated on the managed heap while they worked; the
/// agent promises 0.</param>
/// <param name="Timeline">When each step was reached, in microseconds after the start.</param>
public sealed record CaptureSummary(
    string Output,
    DateTimeOffset PointInTime,
    string Engine,
    string EngineReason,
    long DowntimeMicroseconds,
    long ProtectionWindowMicroseconds,
    long TotalMicroseconds,
    long Faults,
    long? FaultP50Microseconds,
    long? FaultP99Microseconds,
    long? FaultMaxMicroseconds,
    long RamBytes,
    long StoredBytes,
    long? HotPathAllocatedBytes,
    IReadOnlyList<ManifestTimelineEntry> Timeline
)
{
    /// <summary>Whether the guest's file systems were frozen at the point in time.</summary>
    [JsonConverter(typeof(JsonStringEnumConverter<QuiesceOutcome>))]
    public QuiesceOutcome Quiesce { get; init; }

    /// <summary>Whether the guest was paused before the capture.</summary>
    public bool Paused { get; init; }

    /// <summary>Where the downtime went; null if the engine does not show it or the guest was paused before.</summary>
    public ManifestStopWindow? StopWindow { get; init; }

    /// <summary>The machine's disks, captured or not.</summary>
    public IReadOnlyList<ManifestDisk> Disks { get; init; } = [];

    /// <summary>Why the file systems were not frozen; null if they were, or if no freeze was requested.</summary>
    public string? QuiesceDetail { get; init; }
}
