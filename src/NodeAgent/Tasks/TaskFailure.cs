namespace Bgsnap.NodeAgent.Tasks;

/// <summary>A task that cannot be done, with the word and the sentence for its status.</summary>
internal sealed class TaskFailure(string reason, string message) : Exception(message)
{
    /// <summary>One word.</summary>
    internal string Reason => reason;
}
