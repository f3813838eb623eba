namespace Bgsnap.Operator.Shared;

/// <summary>The snapshot or restore can never become Ready.</summary>
/// <param name="reason">The condition's reason, in CamelCase.</param>
/// <param name="message">The condition's message; it names the remedy.</param>
internal sealed class TerminalException(string reason, string message) : Exception(message)
{
    /// <summary>The condition's reason, in CamelCase.</summary>
    public string Reason => reason;
}
