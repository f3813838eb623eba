using Bgsnap.NodeAgent.Disks.Graph;
using Bgsnap.NodeAgent.GuestAgent;
using Bgsnap.NodeAgent.Store;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>Which way a capture is made.</summary>
public enum CaptureEngine
{
    /// <summary>The agent's own where the machine allows it, else QEMU's.</summary>
    Auto,

    /// <summary>From outside QEMU, by the agent's userfaultfd.</summary>
    Agent,

    /// <summary>QEMU's own <c>background-snapshot</c> migration.</summary>
    Qemu,
}

/// <summary>What the guest does after the point in time.</summary>
public enum AfterCapture
{
    /// <summary>It runs on.</summary>
    Continue,

    /// <summary>It stays stopped when the capture succeeds: the snapshot is its suspended state. When it fails the guest runs on.</summary>
    Stop,
}

/// <summary>How disks are cut at the point in time.</summary>
public enum DiskMethod
{
    /// <summary>The best that this QEMU has.</summary>
    Auto,

    /// <summary>By a filter in QEMU that saves what the guest is about to overwrite.</summary>
    CopyBeforeWrite,

    /// <summary>By an overlay that the guest writes to meanwhile.</summary>
    Overlay,

    /// <summary>By the storage, while the guest is held stopped.</summary>
    VolumeSnapshot,
}

/// <summary>What a capture is asked to do.</summary>
public sealed record CaptureOptions
{
    /// <summary>The stage when none is asked for, bytes.</summary>
    public const long DefaultStageBytes = 512L << 20;

    /// <summary>The guest agent's time when none is given.</summary>
    public static readonly TimeSpan DefaultQuiesceTimeout = TimeSpan.FromSeconds(10);

    /// <summary>How QEMU is reached.</summary>
    public required MonitorAddress Monitor { get; init; }

    /// <summary>The directory to be made.</summary>
    public required string Output { get; init; }

    /// <summary>Id of the container that QEMU must run in; null: anywhere.</summary>
    public string? Container { get; init; }

    /// <summary>Which engine.</summary>
    public CaptureEngine Engine { get; init; }

    /// <summary>How granules are stored.</summary>
    public PageCompression Compression { get; init; }

    /// <summary>Bytes of RAM copied per second by the sweep, 0 for no limit. Pages a guest waits for are not held back.</summary>
    public long BandwidthLimit { get; init; }

    /// <summary>Bytes of buffers between guest and file.</summary>
    public long StageBytes { get; init; } = DefaultStageBytes;

    /// <summary>A longer stop window is given up; zero for no limit.</summary>
    public TimeSpan MaxDowntime { get; init; }

    /// <summary>Unix socket of the guest agent's channel; null: there is none.</summary>
    public string? GuestAgentSocket { get; init; }

    /// <summary>Whether the guest's file systems are frozen around the point in time.</summary>
    public QuiescePolicy Quiesce { get; init; }

    /// <summary>How long the guest agent may take for an answer.</summary>
    public TimeSpan QuiesceTimeout { get; init; } = DefaultQuiesceTimeout;

    /// <summary>Which disks are captured.</summary>
    internal DiskSelection Disks { get; init; } = DiskSelection.All;

    /// <summary>How they are cut.</summary>
    public DiskMethod DiskMethod { get; init; }

    /// <summary>Capture encrypted disks too, and store them decrypted; else they are refused.</summary>
    public bool DecryptDisks { get; init; }

    /// <summary>Directory for what the guest overwrites before it was copied.</summary>
    public string ScratchDirectory { get; init; } = Path.GetTempPath();

    /// <summary>Bytes that may take for all disks.</summary>
    public long ScratchLimit { get; init; } = ScratchSpace.DefaultLimit;

    /// <summary>The VM's Kubernetes objects, JSON, to be kept with the snapshot; null: none.</summary>
    public string? Objects { get; init; }

    /// <summary>QEMU holds the guest in its stop window also where saving its devices would.</summary>
    internal bool HoldGuest { get; init; }

    /// <summary>What the guest does afterwards.</summary>
    public AfterCapture After { get; init; }
}
