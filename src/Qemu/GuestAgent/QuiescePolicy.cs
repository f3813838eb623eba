namespace Bgsnap.Qemu.GuestAgent;

/// <summary>Whether to freeze the guest's file systems around the point in time.</summary>
public enum QuiescePolicy
{
    /// <summary>Freeze if a guest agent answers; otherwise capture without a freeze.</summary>
    IfAvailable,

    /// <summary>Do not capture without a freeze.</summary>
    Required,

    /// <summary>Do not use the guest agent.</summary>
    Never,
}

/// <summary>The outcome of quiescing; the names are those of KubeVirt's snapshot indications.</summary>
public enum QuiesceOutcome
{
    /// <summary>The guest ran, and no freeze was requested.</summary>
    Online,

    /// <summary>The guest agent had frozen the file systems at the point in time.</summary>
    GuestAgent,

    /// <summary>No guest agent was given, or it did not answer.</summary>
    NoGuestAgent,

    /// <summary>The guest agent answered, but the file systems may not have been frozen at the point in time.</summary>
    QuiesceFailed,
}
