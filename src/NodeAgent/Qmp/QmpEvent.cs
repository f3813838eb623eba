namespace Bgsnap.NodeAgent.Qmp;

/// <summary>An event of QEMU with QEMU's own time stamp.</summary>
/// <param name="Name">Such as <c>STOP</c>, <c>RESUME</c>, <c>BALLOON_CHANGE</c>.</param>
/// <param name="Timestamp">The host's wall clock when it happened, in microseconds since 1970.</param>
/// <param name="Data">The JSON of its data, empty when it has none.</param>
public sealed record QmpEvent(string Name, long Timestamp, string Data);
