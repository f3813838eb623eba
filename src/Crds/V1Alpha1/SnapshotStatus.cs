using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using Bgsnap.Crds.Schema;
using k8s.Models;

namespace Bgsnap.Crds.V1Alpha1;

/// <summary>What has become of a snapshot.</summary>
public sealed class SnapshotStatus : IConditionedStatus
{
    /// <summary>Generation that this status is about.</summary>
    [Description("Generation of the object that this status describes.")]
    public long? ObservedGeneration { get; set; }

    /// <summary>One of <see cref="SnapshotPhase"/>.</summary>
    [Description(
        "Pending (something it needs is missing), Queued (the node is busy with others), Preparing (mounting the claim), "
            + "Capturing, Ready, Failed, or Deleting."
    )]
    public string? Phase { get; set; }

    /// <summary>Conditions; see <see cref="ConditionTypes"/>.</summary>
    [Description(
        "Ready: the snapshot is complete on its claim. Reconciling and Stalled: as kstatus defines them. PointInTime: the "
            + "instant that the snapshot shows has been fixed."
    )]
    [ListMapKey("type")]
    public List<V1Condition>? Conditions { get; set; }

    /// <summary>Node of the VM.</summary>
    [Description("Node on which the VM ran.")]
    public string? NodeName { get; set; }

    /// <summary>Pod of the VM.</summary>
    [Description("Pod in which the VM ran.")]
    public string? PodName { get; set; }

    /// <summary>Uid of that pod.</summary>
    [Description("UID of that pod.")]
    public string? PodUID { get; set; }

    /// <summary>Claim in use.</summary>
    [Description("Claim that holds the snapshot.")]
    public string? ClaimName { get; set; }

    /// <summary>Directory on the claim.</summary>
    [Description("Directory of the snapshot on its claim.")]
    public string? Directory { get; set; }

    /// <summary>Progress of the capture.</summary>
    [Description("Progress of the capture.")]
    public CaptureProgressStatus? Progress { get; set; }

    /// <summary>The point in time.</summary>
    [Description("The instant that the snapshot shows.")]
    public DateTime? PointInTime { get; set; }

    /// <summary>Length of the stop window.</summary>
    [Description("How long the guest was stopped, such as 1.2ms.")]
    public string? Downtime { get; set; }

    /// <summary>Length of the protection window.</summary>
    [Description("How long guest memory was write-protected and the guest may have been slower, such as 850ms.")]
    public string? ProtectionWindow { get; set; }

    /// <summary>Guest writes that had to wait.</summary>
    [Description("Guest writes to pages that were not copied yet.")]
    public long? Faults { get; set; }

    /// <summary>Engine that was used.</summary>
    [Description("Engine that was used: Agent or Qemu.")]
    public string? Engine { get; set; }

    /// <summary>Why that engine.</summary>
    [Description("Why that engine was used.")]
    public string? EngineReason { get; set; }

    /// <summary>How consistent it is, as <see cref="SnapshotIndication"/> says.</summary>
    [Description(
        "How the guest was captured. Online: QEMU ran. GuestAgent: its file systems were frozen by the guest agent. "
            + "NoGuestAgent: no guest agent was available. QuiesceFailed: the guest agent failed. Paused: the guest was "
            + "paused, and will be after a restore. Without a freeze the disks are as after a power failure, but show the "
            + "same instant as RAM."
    )]
    public List<string>? Indications { get; set; }

    /// <summary>How disks were captured.</summary>
    [Description("How disks were captured: CopyBeforeWrite, Overlay, VolumeSnapshot, or None.")]
    public string? DiskMethod { get; set; }

    /// <summary>Why in that way.</summary>
    [Description("Why that method was used.")]
    public string? DiskMethodReason { get; set; }

    /// <summary>The VM's disks.</summary>
    [Description("The VM's disks, including those that were only recorded.")]
    public List<DiskStatus>? Disks { get; set; }

    /// <summary>Bytes of guest RAM.</summary>
    [Description("Bytes of guest RAM.")]
    public long? RamBytes { get; set; }

    /// <summary>Bytes on the claim.</summary>
    [Description("Bytes that the snapshot occupies on the claim.")]
    public long? StoredBytes { get; set; }

    /// <summary>The same for people.</summary>
    [Description("Size as text, such as 1.2Gi.")]
    public string? Size { get; set; }

    /// <summary>SHA-256 of snapshot.json.</summary>
    [Description("Checksum of snapshot.json, sha256:<hex>; that file holds the checksums of all others.")]
    public string? ManifestChecksum { get; set; }

    /// <summary>When it became Ready or Failed.</summary>
    [Description("When the snapshot became Ready or Failed.")]
    public DateTime? CompletionTime { get; set; }
}

/// <summary>How far a capture is.</summary>
public sealed class CaptureProgressStatus
{
    /// <summary>Share that is written, 0 to 100.</summary>
    [Description("Progress in percent.")]
    [Range(0, 100)]
    public int? Percent { get; set; }

    /// <summary>The same for people.</summary>
    [Description("Progress as text, such as 42%.")]
    public string? Text { get; set; }

    /// <summary>Bytes of RAM and disks done.</summary>
    [Description("Bytes of guest RAM and disks done.")]
    public long? Bytes { get; set; }

    /// <summary>Bytes per second.</summary>
    [Description("Bytes per second.")]
    public long? BytesPerSecond { get; set; }
}

/// <summary>Values of <see cref="SnapshotStatus.Phase"/>.</summary>
public static class SnapshotPhase
{
    /// <summary>Something it needs is missing.</summary>
    public const string Pending = "Pending";

    /// <summary>The node is busy with others.</summary>
    public const string Queued = "Queued";

    /// <summary>The claim is brought to the node.</summary>
    public const string Preparing = "Preparing";

    /// <summary>The agent is at work.</summary>
    public const string Capturing = "Capturing";

    /// <summary>Whole, and on its claim.</summary>
    public const string Ready = "Ready";

    /// <summary>Given up; the guest runs on.</summary>
    public const string Failed = "Failed";

    /// <summary>Being deleted.</summary>
    public const string Deleting = "Deleting";

    /// <summary>Whether nothing changes any more by itself.</summary>
    public static bool IsTerminal(string? phase) => phase is Ready or Failed;
}

/// <summary>Types of conditions (metav1.Condition).</summary>
public static class ConditionTypes
{
    /// <summary>The snapshot is whole and on its claim.</summary>
    public const string Ready = "Ready";

    /// <summary>Work is under way (kstatus).</summary>
    public const string Reconciling = "Reconciling";

    /// <summary>It will not become Ready by itself (kstatus).</summary>
    public const string Stalled = "Stalled";

    /// <summary>The instant that the snapshot shows is fixed.</summary>
    public const string PointInTime = "PointInTime";

    /// <summary>Of a restore: the claims hold the snapshot's disks.</summary>
    public const string DisksRestored = "DisksRestored";

    /// <summary>Of a restore: all of the guest's RAM has arrived.</summary>
    public const string Resident = "Resident";
}
