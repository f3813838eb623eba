namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// The agent engine cannot work on this machine or with this QEMU; the guest has not been touched. <c>auto</c> takes the other engine.
/// </summary>
public sealed class EngineUnavailableException(string message) : Exception(message);
