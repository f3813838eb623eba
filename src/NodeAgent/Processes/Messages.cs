using System.Text.Json;
using System.Text.Json.Serialization;
using Bgsnap.Engine.Capture;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Processes;

/// <summary>A progress line of <c>capture --json</c>; also the heartbeat from the capturing process to its parent.</summary>
internal sealed record ProgressLine(
    string Type,
    string Phase,
    double Percent,
    long CopiedBytes,
    long TotalBytes,
    long PendingBytes,
    long WrittenBytes,
    double BytesPerSecond,
    long Faults,
    DateTimeOffset? PointInTime = null,
    long DiskCopiedBytes = 0,
    long DiskTotalBytes = 0,
    IReadOnlyList<ManifestDisk>? HeldDisks = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] ErrorLine? Failing = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] Guid? Snapshot = null
);

/// <summary>The last line of a successful <c>capture --json</c>.</summary>
internal sealed record SummaryLine(string Type, CaptureSummary Summary);

/// <summary>A progress line of <c>restore --json</c>.</summary>
internal sealed record RestoreProgressLine(
    string Type,
    string Phase,
    double Percent,
    long CopiedBytes,
    long TotalBytes,
    double BytesPerSecond,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)] long Faults = 0,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Problem = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)] bool GuestRuns = false,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)] long TimeToRunMicroseconds = 0,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Method = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? MethodReason = null
);

/// <summary>The last line of <c>restore --json</c> when the guest runs.</summary>
internal sealed record RestoreSummaryLine(
    string Type,
    string Snapshot,
    string Method,
    long TimeToRunMicroseconds,
    long TotalMicroseconds,
    long DisksMicroseconds,
    long MemoryMicroseconds,
    long RamBytes,
    long DiskBytes,
    IReadOnlyList<string> Disks,
    string GuestState,
    int Thawed,
    string? StillFrozen,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? MethodReason = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] InstantLine? Instant = null,
    long LoadMicroseconds = 0,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] IReadOnlyList<string>? Dropped = null
);

/// <summary>How memory was loaded while the guest already ran.</summary>
internal sealed record InstantLine(
    bool TakenOver,
    long Faults,
    long FaultP50Microseconds,
    long FaultP99Microseconds,
    long FaultMaxMicroseconds,
    int RecordedUnits,
    long HugeBytes,
    string? Left
);

/// <summary>The line of <c>free --json</c>.</summary>
/// <param name="Type">summary.</param>
/// <param name="Guest">The guest's state in QEMU's words.</param>
/// <param name="Removed">How many leftovers were removed from QEMU.</param>
/// <param name="Thawed">The guest was thawed after a freeze of ours.</param>
/// <param name="NotThawed">Why the guest could not be thawed; null: no freeze of ours is left.</param>
/// <param name="Resumed">The guest was resumed, because a capture that died had left it stopped.</param>
internal sealed record FreedLine(
    string Type,
    string Guest,
    int Removed,
    bool Thawed,
    string? NotThawed = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)] bool Resumed = false
);

/// <summary>The line of <c>restored --json</c>.</summary>
/// <param name="Type">summary.</param>
/// <param name="GuestState">The guest's state in QEMU's words.</param>
/// <param name="StillFrozen">Why its file systems are frozen; null: they are not.</param>
internal sealed record RestoredLine(string Type, string GuestState, string? StillFrozen = null);

/// <summary>The last line of a failed command with <c>--json</c>.</summary>
/// <param name="Type">error.</param>
/// <param name="Reason">One word.</param>
/// <param name="Message">A sentence for people.</param>
/// <param name="ExitCode">The command's exit code.</param>
/// <param name="NeedsCare">We may have left the guest stopped or frozen: QEMU did not answer, or the guest could not be thawed.</param>
internal sealed record ErrorLine(
    string Type,
    string Reason,
    string Message,
    int ExitCode,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)] bool NeedsCare = false
);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(ProgressLine))]
[JsonSerializable(typeof(SummaryLine))]
[JsonSerializable(typeof(RestoreProgressLine))]
[JsonSerializable(typeof(RestoreSummaryLine))]
[JsonSerializable(typeof(FreedLine))]
[JsonSerializable(typeof(RestoredLine))]
[JsonSerializable(typeof(ErrorLine))]
internal sealed partial class MessagesJson : JsonSerializerContext;
