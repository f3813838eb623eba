using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using Bgsnap.Crds.Schema;

namespace Bgsnap.Crds.V1Alpha1;

/// <summary>How to capture.</summary>
public sealed class CaptureSpec
{
    /// <summary>Engine.</summary>
    [Description(
        "Auto uses Agent, the faster engine, if the node allows it, and Qemu otherwise. Agent copies RAM from outside QEMU by "
            + "userfaultfd write protection; Qemu uses QEMU's own background-snapshot."
    )]
    [AllowedValues("Auto", "Agent", "Qemu")]
    [DefaultValue("Auto")]
    public string? Engine { get; set; }

    /// <summary>Compression.</summary>
    [Description("How RAM is compressed. None is fastest; Lz4 costs little; Zstd stores least.")]
    [AllowedValues("None", "Lz4", "Zstd")]
    [DefaultValue("None")]
    public string? Compression { get; set; }

    /// <summary>Bytes per second.</summary>
    [Description("Maximum bytes written per second, as a quantity such as 200Mi. No limit when not set.")]
    [Cel(
        "isQuantity(self) && quantity(self).compareTo(quantity('1Mi')) >= 0",
        "spec.capture.bandwidthLimit: a quantity of at least 1Mi (bytes per second), such as 200Mi"
    )]
    [StringLength(32)]
    public string? BandwidthLimit { get; set; }

    /// <summary>Longest stop window.</summary>
    [Description(
        "Longest time that the guest may be stopped, such as 250ms. A capture that would exceed it is cancelled and the guest "
            + "resumes. Default: 1s; 10s with diskMethod VolumeSnapshot, where the guest waits for the storage."
    )]
    [Cel(
        "self.matches('^[0-9]{1,6}(ms|s)$') && duration(self) >= duration('1ms') && duration(self) <= duration('60s')",
        "spec.capture.maxDowntime: between 1ms and 60s, such as 250ms or 1s"
    )]
    [StringLength(16)]
    public string? MaxDowntime { get; set; }

    /// <summary>Time from creation until Ready.</summary>
    [Description(
        "Time from this object's creation by which the snapshot must be Ready, such as 30m; otherwise the capture is "
            + "cancelled and the guest keeps running. Default: 1h."
    )]
    [Cel(
        "self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$') && self != '' && duration(self) >= duration('10s')",
        "spec.capture.deadline: at least 10s, such as 30m or 1h30m"
    )]
    [StringLength(16)]
    public string? Deadline { get; set; }

    /// <summary>Which disks; null: all.</summary>
    [Description(
        "Which of the VM's disks are captured with its RAM; all when not set. Read-only disks and media are recorded and never copied."
    )]
    [Cel(
        "self.select != 'Named' || (has(self.names) && size(self.names) > 0)",
        "spec.capture.disks.names: name at least one disk, or take select All or None"
    )]
    [Cel("self.select == 'Named' || !has(self.names)", "spec.capture.disks.names: only with select Named")]
    public DiskSelection? Disks { get; set; }

    /// <summary>One of <see cref="DiskCaptureMethod"/>.</summary>
    [Description(
        "How disks are captured. Auto means CopyBeforeWrite, which copies data that the guest is about to overwrite to "
            + "scratch space on the node; a VM whose QEMU cannot do this (older than 7.1, or older than 9.0 with an iothread) "
            + "is refused. Overlay redirects guest writes to a layer above the disk, which is merged afterwards: if QEMU ends "
            + "before the merge, everything that the guest wrote since the cut is lost, even flushed data. Both copy the "
            + "disks to the snapshot's claim. VolumeSnapshot copies nothing: the storage takes VolumeSnapshots of the VM's "
            + "claims while the guest waits."
    )]
    [AllowedValues(DiskCaptureMethod.Auto, DiskCaptureMethod.CopyBeforeWrite, DiskCaptureMethod.Overlay, DiskCaptureMethod.VolumeSnapshot)]
    [DefaultValue(DiskCaptureMethod.Auto)]
    public string? DiskMethod { get; set; }

    /// <summary>What is done with disks whose image is encrypted.</summary>
    [Description(
        "How disks with a LUKS image are handled. Refuse: a capture that would copy one fails with reason "
            + "DiskEncrypted. StoreDecrypted: their content is stored as the guest sees it, not encrypted; status.disks says so."
    )]
    [AllowedValues("Refuse", "StoreDecrypted")]
    [DefaultValue("Refuse")]
    public string? EncryptedDisks { get; set; }

    /// <summary>Class of the VolumeSnapshots; null: the cluster's default.</summary>
    [Description(
        "VolumeSnapshotClass of the VolumeSnapshots, with diskMethod VolumeSnapshot; the cluster's default class for the claims' "
            + "CSI driver when not set."
    )]
    [StringLength(253, MinimumLength = 1)]
    public string? VolumeSnapshotClassName { get; set; }

    /// <summary>Whether file systems are frozen.</summary>
    [Description(
        "Whether the QEMU guest agent freezes the guest's file systems around the cut. IfAvailable: if the pod's annotation "
            + "bgsnap.io/guest-agent-socket names one and it answers. Required: the capture fails without it. Never: no "
            + "freeze. status.indications shows the result."
    )]
    [AllowedValues("IfAvailable", "Required", "Never")]
    [DefaultValue("IfAvailable")]
    public string? Quiesce { get; set; }

    /// <summary>Longest time for freezing.</summary>
    [Description(
        "Longest time that the guest agent may take to freeze, and that file systems may stay frozen, such as 10s. The guest is "
            + "thawed when it is over."
    )]
    [Cel(
        "self.matches('^[0-9]{1,5}(ms|s)$') && duration(self) >= duration('1s') && duration(self) <= duration('60s')",
        "spec.capture.quiesceTimeout: between 1s and 60s, such as 10s"
    )]
    [DefaultValue("10s")]
    [StringLength(16)]
    public string? QuiesceTimeout { get; set; }

    /// <summary>What becomes of the guest after the cut.</summary>
    [Description(
        "State of the guest after the cut. Continue: it resumes. Stop: it stays stopped, and the snapshot is its suspended "
            + "state; restore the snapshot to continue, or resume QEMU (cont) to continue without it."
    )]
    [AllowedValues("Continue", "Stop")]
    [DefaultValue("Continue")]
    public string? After { get; set; }

    /// <summary>One of <see cref="PausedGuest"/>.</summary>
    [Description(
        "What happens when the VirtualMachine is paused (its condition Paused is True). Wait: it is captured once it is "
            + "resumed, if that is before the deadline. Capture: it is captured as it is, and a restore of it is paused too. "
            + "A pod's VM is always "
            + "captured as it is."
    )]
    [AllowedValues(PausedGuest.Wait, PausedGuest.Capture)]
    [DefaultValue(PausedGuest.Wait)]
    public string? WhenPaused { get; set; }
}

/// <summary>Values of <see cref="CaptureSpec.WhenPaused"/>.</summary>
public static class PausedGuest
{
    /// <summary>Until it runs on.</summary>
    public const string Wait = "Wait";

    /// <summary>As it is.</summary>
    public const string Capture = "Capture";
}

/// <summary>Which disks are captured.</summary>
public sealed class DiskSelection
{
    /// <summary>All, None or Named.</summary>
    [Description(
        "All: every writable disk. None: RAM and device state only; such a snapshot can be restored only beside disks that have "
            + "not changed since. Named: those in names."
    )]
    [AllowedValues("All", "None", "Named")]
    [DefaultValue("All")]
    public string? Select { get; set; }

    /// <summary>Names, with Named.</summary>
    [Description(
        "Names of the disks, with select Named: QEMU's drive ids, or ids of their devices. A name that the VM does not have fails "
            + "the capture."
    )]
    [Cel(
        "self.all(n, n.matches('^[A-Za-z0-9._-]+$') && n != 'all' && n != 'none')",
        "spec.capture.disks.names: names of disks have letters, digits, '.', '_' and '-'; for all and none there is select"
    )]
    [MaxItems(64)]
    [ItemLength(1, 128)]
    [ListSet]
    public List<string>? Names { get; set; }
}

/// <summary>Values of <see cref="CaptureSpec.DiskMethod"/>, and but for Auto of what was used.</summary>
public static class DiskCaptureMethod
{
    /// <summary>Whatever the machine allows.</summary>
    public const string Auto = "Auto";

    /// <summary>What the guest overwrites is copied to scratch space first.</summary>
    public const string CopyBeforeWrite = "CopyBeforeWrite";

    /// <summary>The guest writes to a layer above its disk meanwhile.</summary>
    public const string Overlay = "Overlay";

    /// <summary>The storage makes snapshots of the claims.</summary>
    public const string VolumeSnapshot = "VolumeSnapshot";

    /// <summary>The disk was not captured.</summary>
    public const string None = "None";
}
