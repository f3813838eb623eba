using Bgsnap.Engine.Capture;

namespace Bgsnap.Engine.Restore;

/// <summary>What to restore, and where.</summary>
internal sealed record RestoreOptions
{
    /// <summary>The snapshot's directory.</summary>
    internal required string Directory { get; init; }

    /// <summary>The address of the waiting QEMU's monitor.</summary>
    internal required MonitorAddress Target { get; init; }

    /// <summary>Refuse unless QEMU runs in the container with this id; null: it may run anywhere.</summary>
    internal string? Container { get; init; }

    /// <summary>The guest agent's socket, to thaw a guest that was captured frozen; null: no guest agent.</summary>
    internal string? GuestAgentSocket { get; init; }

    /// <summary>
    /// Whether to write the snapshot's disks into the target's; if not, the target's disks must already have that content.
    /// </summary>
    internal bool Disks { get; init; } = true;

    /// <summary>The earlier process, which died, got the guest to run: if nothing of ours is left in QEMU, it had finished.</summary>
    internal bool GuestRan { get; init; }

    /// <summary>How RAM is loaded.</summary>
    internal RestoreMode Mode { get; init; }

    /// <summary>
    /// Most bytes of RAM a second to load in the background while the guest runs; 0: no limit. Faults of the guest are not limited.
    /// </summary>
    internal long BytesPerSecond { get; init; }

    /// <summary>Whether a guest whose memory was loaded while it ran gets huge pages again at the end.</summary>
    internal bool HugePages { get; init; } = true;

    /// <summary>
    /// Whether to record in the snapshot's directory what the guest touches first, and to load an existing record first.
    /// </summary>
    internal bool RecordedStart { get; init; } = true;
}

/// <summary>How RAM is loaded into the target.</summary>
internal enum RestoreMode
{
    /// <summary>The best that the machine and the snapshot's volume allow.</summary>
    Auto,

    /// <summary>The guest runs first; its RAM is loaded while it runs.</summary>
    Instant,

    /// <summary>The agent writes RAM into QEMU, then the guest runs.</summary>
    Eager,

    /// <summary>QEMU loads all of RAM itself.</summary>
    Stream,
}
