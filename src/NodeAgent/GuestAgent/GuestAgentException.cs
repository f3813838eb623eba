namespace Bgsnap.NodeAgent.GuestAgent;

/// <summary>A guest agent that cannot be reached, does not answer, or refuses.</summary>
internal sealed class GuestAgentException : Exception
{
    internal GuestAgentException(string message, bool refused = false, Exception? inner = null)
        : base(message, inner) => Refused = refused;

    /// <summary>It answered, with an error: it is there and said no.</summary>
    internal bool Refused { get; }
}
