namespace Bgsnap.NodeAgent.GuestAgent;

/// <summary>A conversation with <c>qemu-ga</c> in a guest. What it throws is <see cref="GuestAgentException"/>.</summary>
internal interface IGuestAgent : IDisposable
{
    /// <summary>Freezes every file system that can be: guest-fsfreeze-freeze. Returns their number.</summary>
    int Freeze(TimeSpan timeout, CancellationToken cancel);

    /// <summary>Thaws them: guest-fsfreeze-thaw. Returns how many were frozen.</summary>
    int Thaw(TimeSpan timeout);

    /// <summary>guest-fsfreeze-status: true while the agent keeps the file systems frozen.</summary>
    bool IsFrozen(TimeSpan timeout, CancellationToken cancel);
}
