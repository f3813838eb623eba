namespace Bgsnap.NodeAgent.Tasks;

/// <summary>A task that cannot be done, with the word and the sentence for its status.</summary>
internal sealed class TaskFailure(string reason, string message, bool needsCare = false) : Exception(message)
{
    /// <summary>One word.</summary>
    internal string Reason => reason;

    /// <summary>The guest may still be stopped or frozen by us: it is to be looked after before this is said.</summary>
    internal bool NeedsCare => needsCare;
}
