using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using Bgsnap.Crds.Schema;

namespace Bgsnap.Crds.V1Alpha1;

/// <summary>What to capture, where to, and how.</summary>
// KubeVirt's launcher owns the monitor of its QEMU and resumes every guest that it did not pause itself.
[Cel(
    "self.source.apiGroup != 'kubevirt.io' || !has(self.capture) || self.capture.engine != 'Qemu'",
    "spec.capture.engine: Qemu cannot go with a source of kubevirt.io, whose libvirt owns QEMU's migration; take Auto or Agent"
)]
[Cel(
    "self.source.apiGroup != 'kubevirt.io' || !has(self.capture) || self.capture.after != 'Stop'",
    "spec.capture.after: Stop cannot go with a source of kubevirt.io, since KubeVirt resumes a guest that it did not pause; pause "
        + "it yourself (virtctl pause vm) and take whenPaused Capture"
)]
[Cel(
    "self.source.apiGroup != 'kubevirt.io' || !has(self.capture) || self.capture.diskMethod != 'VolumeSnapshot'",
    "spec.capture.diskMethod: VolumeSnapshot cannot go with a source of kubevirt.io, since KubeVirt would resume the guest before "
        + "the storage has cut; take Auto"
)]
public sealed class SnapshotSpec
{
    /// <summary>The virtual machine.</summary>
    [Required]
    [Description("The virtual machine to capture, in the snapshot's own namespace.")]
    [Cel(
        "(self.apiGroup == '' && self.kind == 'Pod') || (self.apiGroup == 'kubevirt.io' && self.kind in ['VirtualMachine', "
            + "'VirtualMachineInstance'])",
        "spec.source: a Pod (apiGroup \"\"), or a VirtualMachine or VirtualMachineInstance (apiGroup kubevirt.io)"
    )]
    public SnapshotSource Source { get; set; } = new();

    /// <summary>Where the snapshot is kept.</summary>
    [Required]
    [Description("The claim that the snapshot is written to, in the snapshot's own namespace. Exactly one of its fields is set.")]
    [Cel(
        "has(self.persistentVolumeClaim) != has(self.claimTemplate)",
        "spec.target: set exactly one of persistentVolumeClaim (an existing claim) and claimTemplate (a claim to make)"
    )]
    public SnapshotTarget Target { get; set; } = new();

    /// <summary>How to capture; null: defaults.</summary>
    [Description("How to capture. The defaults fit most machines.")]
    [Cel(
        "!has(self.volumeSnapshotClassName) || self.diskMethod == 'VolumeSnapshot'",
        "spec.capture.volumeSnapshotClassName: only with diskMethod VolumeSnapshot, which is the one that makes VolumeSnapshots"
    )]
    [Cel(
        "self.diskMethod != 'VolumeSnapshot' || !has(self.disks) || self.disks.select != 'None'",
        "spec.capture.diskMethod: VolumeSnapshot needs disks; disks.select None has none, so leave diskMethod out"
    )]
    [Cel(
        "self.after != 'Stop' || self.quiesce != 'Required'",
        "spec.capture.quiesce: Required cannot go with after Stop, since a guest that stays stopped cannot be thawed; take "
            + "IfAvailable or Never"
    )]
    [Cel(
        "self.engine != 'Qemu' || (self.after != 'Stop' && self.diskMethod != 'VolumeSnapshot')",
        "spec.capture.engine: Qemu lets the guest run on by itself, so that neither after Stop nor diskMethod VolumeSnapshot can "
            + "go with it; take Auto or Agent"
    )]
    public CaptureSpec? Capture { get; set; }

    /// <summary>Delete or Retain.</summary>
    [Description(
        "Whether the files are removed when this object is deleted: Delete removes them from the claim (and also a claim "
            + "created from claimTemplate); Retain keeps both."
    )]
    [AllowedValues("Delete", "Retain")]
    [DefaultValue("Delete")]
    public string? DeletionPolicy { get; set; }
}

/// <summary>Names the virtual machine.</summary>
public sealed class SnapshotSource
{
    /// <summary>API group of KubeVirt's kinds.</summary>
    public const string KubeVirtGroup = "kubevirt.io";

    /// <summary>API group; empty for a Pod.</summary>
    [Description("API group of the source: empty for a Pod, kubevirt.io for a VirtualMachine or VirtualMachineInstance.")]
    [DefaultValue("")]
    [StringLength(253)]
    public string? ApiGroup { get; set; }

    /// <summary>The kind.</summary>
    [Required]
    [Description(
        "Kind of the source. VirtualMachine or VirtualMachineInstance: KubeVirt's, captured where it runs. Pod: it runs QEMU and "
            + "its annotation bgsnap.io/qmp-socket names the path of QEMU's QMP socket inside the container; bgsnap.io/container names "
            + "the container if the pod has several."
    )]
    [StringLength(63)]
    public string Kind { get; set; } = "";

    /// <summary>The name.</summary>
    [Required]
    [Description("Name of the source.")]
    [StringLength(253, MinimumLength = 1)]
    public string Name { get; set; } = "";
}

/// <summary>Where a snapshot is kept.</summary>
public sealed class SnapshotTarget
{
    /// <summary>An existing claim.</summary>
    [Description("An existing claim. Many snapshots can share one: each has its own directory.")]
    public ClaimReference? PersistentVolumeClaim { get; set; }

    /// <summary>A claim to make.</summary>
    [Description("A claim to create for this snapshot, with the same name.")]
    public ClaimTemplate? ClaimTemplate { get; set; }
}

/// <summary>Names a claim.</summary>
public sealed class ClaimReference
{
    /// <summary>The claim's name.</summary>
    [Required]
    [Description("Name of the PersistentVolumeClaim, in the snapshot's namespace.")]
    [StringLength(253, MinimumLength = 1)]
    public string ClaimName { get; set; } = "";
}

/// <summary>A claim to make.</summary>
public sealed class ClaimTemplate
{
    /// <summary>Storage class; null: the cluster's default.</summary>
    [Description("Storage class of the claim; the cluster's default class when it is not set.")]
    [StringLength(253)]
    public string? StorageClassName { get; set; }

    /// <summary>Access modes; null: ReadWriteOnce.</summary>
    [Description("Access modes of the claim; ReadWriteOnce when not set.")]
    [AllowedItems("ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod")]
    [MaxItems(3)]
    public List<string>? AccessModes { get; set; }

    /// <summary>Size as a quantity; null: from the VM.</summary>
    [Description("Size of the claim, such as 8Gi. When not set, it is computed from the VM's memory and the sizes of its claims.")]
    [Cel(
        "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))",
        "spec.target.claimTemplate.size: a positive quantity such as 8Gi"
    )]
    [StringLength(32)]
    public string? Size { get; set; }
}
