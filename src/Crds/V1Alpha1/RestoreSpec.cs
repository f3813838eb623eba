using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using System.Text.Json.Nodes;
using Bgsnap.Crds.Schema;

namespace Bgsnap.Crds.V1Alpha1;

/// <summary>What to restore and where to.</summary>
public sealed class RestoreSpec
{
    /// <summary>The snapshot.</summary>
    [Required]
    [Description(
        "Name of the VMBackgroundSnapshot, in the restore's own namespace. While it is not Ready yet, the restore " + "waits for it."
    )]
    [StringLength(63, MinimumLength = 1)]
    public string SnapshotName { get; set; } = "";

    /// <summary>Where to.</summary>
    [Required]
    [Description("Where the virtual machine is to run. Exactly one of its fields is set.")]
    [Cel(
        "[has(self.pod), has(self.template), has(self.virtualMachine)].exists_one(x, x)",
        "spec.target: set exactly one of pod (a pod whose QEMU waits with -incoming defer), template (claims and a pod to make) "
            + "and virtualMachine (claims and a KubeVirt VirtualMachine to make)"
    )]
    public RestoreTarget Target { get; set; } = new();

    /// <summary>One of <see cref="RestoreMode"/>; null: Auto.</summary>
    [Description(
        "Instant: the guest runs first, its RAM arrives as it is touched, and the snapshot's volume is needed until all of it has "
            + "arrived (condition Resident). Eager: RAM is written by several threads before the guest runs. Stream: QEMU loads RAM "
            + "itself. Auto: the first of these that machine and volume allow."
    )]
    [AllowedValues(RestoreMode.Auto, RestoreMode.Instant, RestoreMode.Eager, RestoreMode.Stream)]
    [DefaultValue(RestoreMode.Auto)]
    public string? Mode { get; set; }

    /// <summary>Bytes per second.</summary>
    [Description(
        "Maximum bytes of RAM read ahead of the guest per second, as a quantity such as 200Mi; pages that the guest touches "
            + "always arrive immediately. No limit when not set."
    )]
    [Cel(
        "isQuantity(self) && quantity(self).compareTo(quantity('1Mi')) >= 0",
        "spec.bandwidthLimit: a quantity of at least 1Mi (bytes per second), such as 200Mi"
    )]
    [StringLength(32)]
    public string? BandwidthLimit { get; set; }

    /// <summary>Time from creation until the guest runs; null: 1h.</summary>
    [Description(
        "Time from this object's creation by which the guest must run, such as 30m; otherwise the restore is cancelled and "
            + "the objects that it created are removed. Default: 1h."
    )]
    [Cel(
        "self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$') && self != '' && duration(self) >= duration('10s')",
        "spec.deadline: at least 10s, such as 30m or 1h30m"
    )]
    [StringLength(16)]
    public string? Deadline { get; set; }
}

/// <summary>Where a virtual machine is restored.</summary>
public sealed class RestoreTarget
{
    /// <summary>A pod that is there.</summary>
    [Description(
        "A pod that runs QEMU with the snapshot's machine and -incoming defer. Its annotation bgsnap.io/qmp-socket names the path "
            + "of QEMU's QMP socket inside the container; bgsnap.io/container names the container if the pod has several. The "
            + "snapshot's disks are written into the files that this QEMU has open."
    )]
    public PodReference? Pod { get; set; }

    /// <summary>Claims and a pod to make.</summary>
    [Description(
        "Claims and a pod to create for this restore. The snapshot's disks are written to the claims, then the pod is "
            + "started. If the restore fails or is deleted before the guest runs, both are removed; afterwards they belong to "
            + "the user."
    )]
    public VirtualMachineTemplate? Template { get; set; }

    /// <summary>A KubeVirt VirtualMachine to make.</summary>
    [Description(
        "A KubeVirt VirtualMachine to create for this restore, or to put back, from the description stored in the snapshot: "
            + "claims with its disks, then the VM, whose guest continues where the snapshot was taken. If the restore fails "
            + "or is deleted before the guest runs, both are removed; afterwards they belong to the user. KubeVirt must have "
            + "its feature gate "
            + "Sidecar enabled."
    )]
    public KubeVirtTarget? VirtualMachine { get; set; }
}

/// <summary>Names a pod.</summary>
public sealed class PodReference
{
    /// <summary>Its name.</summary>
    [Required]
    [Description("Name of the pod, in the restore's namespace.")]
    [StringLength(253, MinimumLength = 1)]
    public string Name { get; set; } = "";
}

/// <summary>A virtual machine to make.</summary>
public sealed class VirtualMachineTemplate
{
    /// <summary>Its disks' claims.</summary>
    [Description("A claim for each disk of the snapshot.")]
    [Cel(
        "self.all(c, self.exists_one(d, d.name == c.name))",
        "spec.target.template.claims: each disk needs a claim of its own, so no name may occur twice"
    )]
    [ListMapKey("disk")]
    [MaxItems(64)]
    public List<RestoreClaim>? Claims { get; set; }

    /// <summary>Its pod.</summary>
    [Required]
    [Description("The pod that runs QEMU with the snapshot's machine and -incoming defer.")]
    public PodTemplate Pod { get; set; } = new();
}

/// <summary>A KubeVirt VirtualMachine to make.</summary>
public sealed class KubeVirtTarget
{
    /// <summary>Its name.</summary>
    [Required]
    [Description("Name of the VirtualMachine to create, or to put back (see whenExists).")]
    [Cel(
        "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
        "spec.target.virtualMachine.name: a VM's name: lower-case letters, digits and '-'"
    )]
    [StringLength(63, MinimumLength = 1)]
    public string Name { get; set; } = "";

    /// <summary>One of <see cref="ExistingMachine"/>; null: Refuse.</summary>
    [Description(
        "If a VirtualMachine with that name exists: Refuse fails the restore and leaves the VM alone. PutBack waits until the "
            + "VM is stopped, then replaces its spec with the captured one. StopAndPutBack does the same, and stops the VM "
            + "itself once the new disks are written. The former claims are kept, and so is the former spec until the guest "
            + "runs: a restore that fails gives the VM its former spec back, and it starts as before."
    )]
    [AllowedValues(ExistingMachine.Refuse, ExistingMachine.PutBack, ExistingMachine.StopAndPutBack)]
    [DefaultValue(ExistingMachine.Refuse)]
    public string? WhenExists { get; set; }

    /// <summary>One of <see cref="MacAddressPolicy"/>; null: Keep.</summary>
    [Description(
        "Keep: the VM has the MAC addresses, firmware UUID and serial number of the captured one; the restore waits while "
            + "another VM of the namespace runs with one of these addresses. Regenerate: it gets new ones, for a copy beside "
            + "the original; the guest still has the old address in its memory, and its network does not answer until it is "
            + "reconfigured or the guest restarts."
    )]
    [AllowedValues(MacAddressPolicy.Keep, MacAddressPolicy.Regenerate)]
    [DefaultValue(MacAddressPolicy.Keep)]
    public string? MacAddresses { get; set; }

    /// <summary>Its disks' claims, where the defaults do not fit.</summary>
    [Description(
        "Name, storage class, access modes and size of the claims of single volumes. A volume that is not named here gets a claim "
            + "<VM>-<volume>, with PutBack and StopAndPutBack <VM>-<volume>-<id of the restore>, like the captured VM's claim "
            + "if that still exists, otherwise of the default storage class."
    )]
    [ListMapKey("volume")]
    [MaxItems(64)]
    public List<KubeVirtClaim>? Claims { get; set; }
}

/// <summary>Values of <see cref="KubeVirtTarget.WhenExists"/>.</summary>
public static class ExistingMachine
{
    /// <summary>It is left alone.</summary>
    public const string Refuse = "Refuse";

    /// <summary>Once its user has stopped it, it becomes the captured one.</summary>
    public const string PutBack = "PutBack";

    /// <summary>It is stopped, and becomes the captured one.</summary>
    public const string StopAndPutBack = "StopAndPutBack";
}

/// <summary>Values of <see cref="KubeVirtTarget.MacAddresses"/>.</summary>
public static class MacAddressPolicy
{
    /// <summary>The captured VM's.</summary>
    public const string Keep = "Keep";

    /// <summary>Others, of KubeVirt's choice.</summary>
    public const string Regenerate = "Regenerate";
}

/// <summary>The claim of a KubeVirt VM's volume.</summary>
public sealed class KubeVirtClaim
{
    /// <summary>The volume.</summary>
    [Required]
    [Description("Name of the volume in the VirtualMachine.")]
    [StringLength(63, MinimumLength = 1)]
    public string Volume { get; set; } = "";

    /// <summary>The claim; null: the VM's name and the volume's.</summary>
    [Description("Name of the claim to create. Default: <VM>-<volume>; <VM>-<volume>-<id of the restore> for a VM that is put back.")]
    [Cel(
        "self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",
        "spec.target.virtualMachine.claims.name: a claim's name: lower-case letters, digits, '-' and '.'"
    )]
    [StringLength(253, MinimumLength = 1)]
    public string? Name { get; set; }

    /// <summary>Storage class; null: that of the captured VM's claim if it is still there, else the cluster's default.</summary>
    [Description(
        "Storage class of the claim; when not set, that of the captured VM's claim if it still exists, otherwise the "
            + "cluster's default class."
    )]
    [StringLength(253)]
    public string? StorageClassName { get; set; }

    /// <summary>Access modes; null: as the captured VM's claim, else ReadWriteOnce.</summary>
    [Description(
        "Access modes of the claim; when not set, those of the captured VM's claim if it still exists with the same storage "
            + "class, otherwise ReadWriteOnce. Live migration needs ReadWriteMany."
    )]
    [AllowedItems("ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod")]
    [MaxItems(3)]
    public List<string>? AccessModes { get; set; }

    /// <summary>Filesystem or Block; null: as the captured VM's claim, else Filesystem.</summary>
    [Description(
        "Filesystem: the disk is the file disk.img in it. Block: the disk is the volume itself. When not set, that of the "
            + "captured VM's claim if it still exists with the same storage class, otherwise Filesystem."
    )]
    [AllowedValues("Filesystem", "Block")]
    public string? VolumeMode { get; set; }

    /// <summary>Size as a quantity; null: from the disk.</summary>
    [Description("Size of the claim, such as 8Gi. When it is not set it is the disk's size, with some room for a file system.")]
    [Cel(
        "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))",
        "spec.target.virtualMachine.claims.size: a positive quantity such as 8Gi"
    )]
    [StringLength(32)]
    public string? Size { get; set; }
}

/// <summary>A claim to make for a disk.</summary>
public sealed class RestoreClaim
{
    /// <summary>The disk.</summary>
    [Required]
    [Description("Name of the disk in the snapshot, as its status.disks names it.")]
    [StringLength(253, MinimumLength = 1)]
    public string Disk { get; set; } = "";

    /// <summary>The claim.</summary>
    [Required]
    [Description("Name of the claim to create; the pod's volumes use the same name.")]
    [Cel(
        "self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",
        "spec.target.template.claims.name: a claim's name: lower-case letters, digits, '-' and '.'"
    )]
    [StringLength(253, MinimumLength = 1)]
    public string Name { get; set; } = "";

    /// <summary>Storage class; null: the cluster's default.</summary>
    [Description("Storage class of the claim; the cluster's default class when it is not set.")]
    [StringLength(253)]
    public string? StorageClassName { get; set; }

    /// <summary>Access modes; null: ReadWriteOnce.</summary>
    [Description("Access modes of the claim; ReadWriteOnce when not set.")]
    [AllowedItems("ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod")]
    [MaxItems(3)]
    public List<string>? AccessModes { get; set; }

    /// <summary>Size as a quantity; null: from the disk.</summary>
    [Description("Size of the claim, such as 8Gi. When it is not set it is the disk's size with some room for the file system.")]
    [Cel(
        "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))",
        "spec.target.template.claims.size: a positive quantity such as 8Gi"
    )]
    [StringLength(32)]
    public string? Size { get; set; }

    /// <summary>Path in the container; null: as in the snapshot.</summary>
    [Description(
        "Path of the disk's file or block device in the container with QEMU; the path that it had when it was captured when not set."
    )]
    [Cel("self.startsWith('/')", "spec.target.template.claims.path: an absolute path in the container with QEMU")]
    [StringLength(1024)]
    public string? Path { get; set; }
}

/// <summary>A pod to make.</summary>
public sealed class PodTemplate
{
    /// <summary>Name, labels and annotations.</summary>
    [Required]
    [Description("Name, labels and annotations of the pod.")]
    public PodTemplateMetadata Metadata { get; set; } = new();

    /// <summary>The pod's spec, as Kubernetes has it.</summary>
    [Required]
    [Description(
        "The pod's spec, as of a Pod. Host namespaces, hostPath volumes, privileged containers and added capabilities are "
            + "refused, because the operator creates the pod with its own rights: for those, start the pod yourself and name "
            + "it in spec.target.pod."
    )]
    public JsonObject Spec { get; set; } = [];
}

/// <summary>Metadata of a pod to make.</summary>
public sealed class PodTemplateMetadata
{
    /// <summary>Name; null: the restore's.</summary>
    [Description("Name of the pod; the restore's when not set.")]
    [Cel(
        "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
        "spec.target.template.pod.metadata.name: a pod's name: lower-case letters, digits and '-'"
    )]
    [StringLength(63, MinimumLength = 1)]
    public string? Name { get; set; }

    /// <summary>Labels.</summary>
    [Description("Labels of the pod.")]
    [MapLimits(64, 63)]
    public Dictionary<string, string>? Labels { get; set; }

    /// <summary>Annotations.</summary>
    [Required]
    [Description(
        "Annotations of the pod: bgsnap.io/qmp-socket names the path of QEMU's QMP socket inside the container; "
            + "bgsnap.io/container names the container if the pod has several."
    )]
    [Cel(
        "'bgsnap.io/qmp-socket' in self",
        "spec.target.template.pod.metadata.annotations: bgsnap.io/qmp-socket is needed: the path of QEMU's QMP socket inside "
            + "the container"
    )]
    [MapLimits(64, 65536)]
    public Dictionary<string, string> Annotations { get; set; } = [];
}

/// <summary>Values of <see cref="RestoreSpec.Mode"/>.</summary>
public static class RestoreMode
{
    /// <summary>The first of the others that machine and volume allow.</summary>
    public const string Auto = "Auto";

    /// <summary>The guest runs first, and its RAM arrives as it is touched.</summary>
    public const string Instant = "Instant";

    /// <summary>RAM is written from outside by several threads, then the guest runs.</summary>
    public const string Eager = "Eager";

    /// <summary>QEMU loads RAM from a migration stream, then the guest runs.</summary>
    public const string Stream = "Stream";
}
