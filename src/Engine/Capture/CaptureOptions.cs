using Bgsnap.Engine.Disks.Graph;
using Bgsnap.Qemu.GuestAgent;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Engine.Capture;

/// <summary>Which engine makes a capture.</summary>
public enum CaptureEngine
{
    /// <summary>The agent's own engine where the machine allows it, otherwise QEMU's.</summary>
    Auto,

    /// <summary>The agent's engine: copies from outside QEMU, through a userfaultfd.</summary>
    Agent,

    /// <summary>QEMU's own <c>background-snapshot</c> migration.</summary>
    Qemu,
}

/// <summary>What the guest does after the point in time.</summary>
public enum AfterCapture
{
    /// <summary>The guest continues to run.</summary>
    Continue,

    /// <summary>
    /// The guest stays stopped if the capture succeeds: the snapshot is its suspended state. If the capture fails, the guest continues.
    /// </summary>
    Stop,
}

/// <summary>How disks are cut at the point in time.</summary>
public enum DiskMethod
{
    /// <summary>The best method that this QEMU has.</summary>
    Auto,

    /// <summary>A filter in QEMU saves what the guest is about to overwrite.</summary>
    CopyBeforeWrite,

    /// <summary>An overlay takes the guest's writes meanwhile.</summary>
    Overlay,

    /// <summary>The storage cuts the disks while the guest is held stopped.</summary>
    VolumeSnapshot,
}

/// <summary>The options of a capture.</summary>
public sealed record CaptureOptions
{
    /// <summary>Default size of the stage, bytes.</summary>
    public const long DefaultStageBytes = 512L << 20;

    /// <summary>Default timeout of the guest agent.</summary>
    public static readonly TimeSpan DefaultQuiesceTimeout = TimeSpan.FromSeconds(10);

    /// <summary>How QEMU is reached.</summary>
    public required MonitorAddress Monitor { get; init; }

    /// <summary>The directory to create.</summary>
    public required string Output { get; init; }

    /// <summary>Id of the container that QEMU must run in; null: anywhere.</summary>
    public string? Container { get; init; }

    /// <summary>The engine to use.</summary>
    public CaptureEngine Engine { get; init; }

    /// <summary>How granules are stored.</summary>
    public PageCompression Compression { get; init; }

    /// <summary>Bytes of RAM copied per second by the sweep, 0 for no limit. Pages a guest waits for are not held back.</summary>
    public long BandwidthLimit { get; init; }

    /// <summary>Bytes of buffers between guest and file.</summary>
    public long StageBytes { get; init; } = DefaultStageBytes;

    /// <summary>The capture is given up if the stop window gets longer; zero for no limit.</summary>
    public TimeSpan MaxDowntime { get; init; }

    /// <summary>Unix socket of the guest agent's channel; null if there is no such socket.</summary>
    public string? GuestAgentSocket { get; init; }

    /// <summary>Whether the guest's file systems are frozen around the point in time.</summary>
    public QuiescePolicy Quiesce { get; init; }

    /// <summary>How long the guest agent may take to answer.</summary>
    public TimeSpan QuiesceTimeout { get; init; } = DefaultQuiesceTimeout;

    /// <summary>Which disks are captured.</summary>
    internal DiskSelection Disks { get; init; } = DiskSelection.All;

    /// <summary>How the disks are cut.</summary>
    public DiskMethod DiskMethod { get; init; }

    /// <summary>Whether to capture encrypted disks too and store them decrypted; otherwise the agent refuses them.</summary>
    public bool DecryptDisks { get; init; }

    /// <summary>Directory for data that the guest overwrites before it is copied.</summary>
    public string ScratchDirectory { get; init; } = Path.GetTempPath();

    /// <summary>Bytes that this data may take for all disks together.</summary>
    public long ScratchLimit { get; init; } = ScratchSpace.DefaultLimit;

    /// <summary>The VM's Kubernetes objects, JSON, to keep with the snapshot; null for no objects.</summary>
    public string? Objects { get; init; }

    /// <summary>Whether QEMU holds the guest in its stop window even where saving its devices would hold it.</summary>
    internal bool HoldGuest { get; init; }

    /// <summary>What the guest does after the capture.</summary>
    public AfterCapture After { get; init; }
}
