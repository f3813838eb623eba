using Bgsnap.NodeAgent.Capture;

namespace Bgsnap.NodeAgent.Restore;

/// <summary>What to restore, and where.</summary>
internal sealed record RestoreOptions
{
    /// <summary>The snapshot's directory.</summary>
    internal required string Directory { get; init; }

    /// <summary>By which way the QEMU that waits is reached.</summary>
    internal required MonitorAddress Target { get; init; }

    /// <summary>Refuse unless QEMU runs in the container with this id; null: anywhere.</summary>
    internal string? Container { get; init; }

    /// <summary>The guest agent's socket, to thaw a guest that was captured frozen; null: there is none.</summary>
    internal string? GuestAgentSocket { get; init; }

    /// <summary>Whether the snapshot's disks are written into the target's; else they are taken to be there already.</summary>
    internal bool Disks { get; init; } = true;

    /// <summary>The process before us, which died, had the guest run: where nothing of it is left in QEMU, it had finished.</summary>
    internal bool GuestRan { get; init; }

    /// <summary>How RAM gets there.</summary>
    internal RestoreMode Mode { get; init; } = RestoreMode.Stream;

    /// <summary>
    /// Most bytes of RAM a second that are brought in while the guest runs; 0: no limit. What it waits for is not held back.
    /// </summary>
    internal long BytesPerSecond { get; init; }

    /// <summary>Whether a guest whose memory followed it gets huge pages again at the end.</summary>
    internal bool HugePages { get; init; } = true;

    /// <summary>
    /// Whether what the guest touches first is noted in the snapshot's directory, and brought in first where that was done.
    /// </summary>
    internal bool RecordedStart { get; init; } = true;
}

/// <summary>How RAM gets into the target.</summary>
internal enum RestoreMode
{
    /// <summary>The best that the machine and the snapshot's volume allow.</summary>
    Auto,

    /// <summary>The guest runs first, its RAM follows.</summary>
    Instant,

    /// <summary>RAM is written into QEMU, then the guest runs.</summary>
    Eager,

    /// <summary>QEMU loads all of it by itself.</summary>
    Stream,
}
