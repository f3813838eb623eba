namespace Bgsnap.Qemu.GuestAgent;

/// <summary>A connection to <c>qemu-ga</c> in a guest. Its methods throw <see cref="GuestAgentException"/>.</summary>
internal interface IGuestAgent : IDisposable
{
    /// <summary>Freezes every file system that can be frozen: guest-fsfreeze-freeze. Returns their number.</summary>
    int Freeze(TimeSpan timeout, CancellationToken cancel);

    /// <summary>Thaws the file systems: guest-fsfreeze-thaw. Returns how many were frozen.</summary>
    int Thaw(TimeSpan timeout);

    /// <summary>guest-fsfreeze-status: true while the agent keeps the file systems frozen.</summary>
    bool IsFrozen(TimeSpan timeout, CancellationToken cancel);
}
