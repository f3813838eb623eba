namespace Bgsnap.Engine.Capture;

/// <summary>
/// The agent engine cannot work on this machine or with this QEMU; the guest was not touched. <c>auto</c> uses the other engine.
/// </summary>
public sealed class EngineUnavailableException(string message) : Exception(message);
