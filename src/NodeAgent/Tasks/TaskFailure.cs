namespace Bgsnap.NodeAgent.Tasks;

/// <summary>A task failed; carries the reason and the message for its status.</summary>
internal sealed class TaskFailure(string reason, string message, bool needsCare = false) : Exception(message)
{
    /// <summary>The reason, one word.</summary>
    internal string Reason => reason;

    /// <summary>We may have left the guest stopped or frozen: it has to be freed before the failure is reported.</summary>
    internal bool NeedsCare => needsCare;
}
