namespace Bgsnap.Qemu.GuestAgent;

/// <summary>The guest agent cannot be reached, does not answer, or refuses.</summary>
internal sealed class GuestAgentException : Exception
{
    internal GuestAgentException(string message, bool refused = false, Exception? inner = null)
        : base(message, inner) => Refused = refused;

    /// <summary>The guest agent answered with an error.</summary>
    internal bool Refused { get; }
}
