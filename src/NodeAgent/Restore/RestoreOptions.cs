namespace Bgsnap.NodeAgent.Restore;

/// <summary>What to restore, and where.</summary>
internal sealed record RestoreOptions
{
    /// <summary>The snapshot's directory.</summary>
    internal required string Directory { get; init; }

    /// <summary>QMP socket of the QEMU that waits.</summary>
    internal required string QmpSocket { get; init; }

    /// <summary>Refuse unless QEMU runs in the container with this id; null: anywhere.</summary>
    internal string? Container { get; init; }

    /// <summary>The guest agent's socket, to thaw a guest that was captured frozen; null: there is none.</summary>
    internal string? GuestAgentSocket { get; init; }

    /// <summary>Whether the snapshot's disks are written into the target's; else they are taken to be there already.</summary>
    internal bool Disks { get; init; } = true;
}
