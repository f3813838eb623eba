using System.Text.Json;
using System.Text.Json.Serialization;
using Bgsnap.NodeAgent.Capture;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>A line of <c>capture --json</c> while it goes on; also the heartbeat between the capturing process and its parent.</summary>
internal sealed record ProgressLine(string Type, string Phase, double Percent, long CopiedBytes, long TotalBytes, long PendingBytes, long WrittenBytes, double BytesPerSecond, long Faults, DateTimeOffset? PointInTime = null, long DiskCopiedBytes = 0, long DiskTotalBytes = 0);

/// <summary>The last line of <c>capture --json</c> when it succeeded.</summary>
internal sealed record SummaryLine(string Type, CaptureSummary Summary);

/// <summary>The last line with <c>--json</c> when a command failed.</summary>
internal sealed record ErrorLine(string Type, string Reason, string Message, int ExitCode);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(ProgressLine))]
[JsonSerializable(typeof(SummaryLine))]
[JsonSerializable(typeof(ErrorLine))]
internal sealed partial class MessagesJson : JsonSerializerContext;
