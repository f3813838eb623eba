namespace Bgsnap.NodeAgent.GuestAgent;

/// <summary>Whether the guest's file systems are frozen around the point in time.</summary>
public enum QuiescePolicy
{
    /// <summary>Frozen where a guest agent answers; else the capture goes on without.</summary>
    IfAvailable,

    /// <summary>No capture without a freeze.</summary>
    Required,

    /// <summary>The guest agent is not asked.</summary>
    Never,
}

/// <summary>What became of it; the words are those of KubeVirt's snapshot indications.</summary>
public enum QuiesceOutcome
{
    /// <summary>The guest ran and was not asked to freeze.</summary>
    Online,

    /// <summary>The guest agent had frozen the file systems at the point in time.</summary>
    GuestAgent,

    /// <summary>No guest agent was named, or none answered.</summary>
    NoGuestAgent,

    /// <summary>The guest agent answered, but the file systems were not surely frozen at the point in time.</summary>
    QuiesceFailed,
}
