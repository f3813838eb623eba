using Bgsnap.Operator.Shared;
using k8s;
using k8s.Models;

namespace Bgsnap.Operator.KubeVirt;

/// <summary>What we read of <c>kubevirt.io/v1</c> VirtualMachineInstance; the names are KubeVirt's.</summary>
public sealed class VirtualMachineInstance : IKubernetesObject<V1ObjectMeta>
{
    /// <inheritdoc/>
    public string ApiVersion { get; set; } = KubeVirtKinds.Group + "/v1";

    /// <inheritdoc/>
    public string Kind { get; set; } = KubeVirtKinds.Instance;

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <summary>The desired state.</summary>
    public VirtualMachineInstanceSpec Spec { get; set; } = new();

    /// <summary>The observed state.</summary>
    public VirtualMachineInstanceStatus? Status { get; set; }
}

/// <summary>The part of its spec that we read.</summary>
public sealed class VirtualMachineInstanceSpec
{
    /// <summary>The virtual machine.</summary>
    public VmiDomain Domain { get; set; } = new();

    /// <summary>The volumes of its disks.</summary>
    public List<VmiVolume>? Volumes { get; set; }
}

/// <summary>The virtual machine.</summary>
public sealed class VmiDomain
{
    /// <summary>Its devices.</summary>
    public VmiDevices? Devices { get; set; }

    /// <summary>Its memory.</summary>
    public VmiMemory? Memory { get; set; }

    /// <summary>Its firmware.</summary>
    public VmiFirmware? Firmware { get; set; }

    /// <summary>Set: its memory is encrypted (SEV, SNP, TDX), or it uses IBM Secure Execution.</summary>
    public VmiEmpty? LaunchSecurity { get; set; }
}

/// <summary>The memory.</summary>
public sealed class VmiMemory
{
    /// <summary>The memory that the guest sees, as a quantity.</summary>
    public string? Guest { get; set; }

    /// <summary>In the status: the current memory, including what was plugged since the start.</summary>
    public string? GuestCurrent { get; set; }

    /// <summary>In the status: the memory at boot.</summary>
    public string? GuestAtBoot { get; set; }

    /// <summary>In the status: the requested memory.</summary>
    public string? GuestRequested { get; set; }
}

/// <summary>The firmware.</summary>
public sealed class VmiFirmware
{
    /// <summary>UUID of the machine and of the libvirt domain.</summary>
    public string? Uuid { get; set; }
}

/// <summary>Devices that matter to a capture.</summary>
public sealed class VmiDevices
{
    /// <summary>Devices passed through by VFIO.</summary>
    public List<VmiNamed>? Gpus { get; set; }

    /// <summary>Devices passed through by VFIO.</summary>
    public List<VmiNamed>? HostDevices { get; set; }

    /// <summary>Directories of the host.</summary>
    public List<VmiFilesystem>? Filesystems { get; set; }

    /// <summary>Network interfaces.</summary>
    public List<VmiInterface>? Interfaces { get; set; }

    /// <summary>Disks.</summary>
    public List<VmiDisk>? Disks { get; set; }
}

/// <summary>A disk.</summary>
public sealed class VmiDisk
{
    /// <summary>Name of the disk and of its volume.</summary>
    public string Name { get; set; } = "";

    /// <summary>Other VMs may write to it.</summary>
    public bool? Shareable { get; set; }

    /// <summary>Set: a SCSI device of the host.</summary>
    public VmiEmpty? Lun { get; set; }
}

/// <summary>Something with a name.</summary>
public sealed class VmiNamed
{
    /// <summary>The name.</summary>
    public string Name { get; set; } = "";
}

/// <summary>A directory of the host.</summary>
public sealed class VmiFilesystem
{
    /// <summary>The name.</summary>
    public string Name { get; set; } = "";

    /// <summary>Set: served by virtiofsd, which maps the guest's memory.</summary>
    public VmiEmpty? Virtiofs { get; set; }
}

/// <summary>A network interface.</summary>
public sealed class VmiInterface
{
    /// <summary>The name.</summary>
    public string Name { get; set; } = "";

    /// <summary>Set: a virtual function, passed through by VFIO.</summary>
    public VmiEmpty? Sriov { get; set; }

    /// <summary>Set: connected by passt.</summary>
    public VmiEmpty? PasstBinding { get; set; }

    /// <summary>The network binding plugin that connects it, or null.</summary>
    public VmiNamed? Binding { get; set; }
}

/// <summary>An object whose presence alone is the information.</summary>
public sealed class VmiEmpty;

/// <summary>The volume of a disk.</summary>
public sealed class VmiVolume
{
    /// <summary>The name.</summary>
    public string Name { get; set; } = "";

    /// <summary>A claim.</summary>
    public V1PersistentVolumeClaimVolumeSource? PersistentVolumeClaim { get; set; }

    /// <summary>A DataVolume; its claim has the same name.</summary>
    public VmiNamed? DataVolume { get; set; }

    /// <summary>A read-only claim; what the guest writes is lost with the pod.</summary>
    public VmiEphemeral? Ephemeral { get; set; }
}

/// <summary>A read-only claim.</summary>
public sealed class VmiEphemeral
{
    /// <summary>The claim.</summary>
    public V1PersistentVolumeClaimVolumeSource? PersistentVolumeClaim { get; set; }
}

/// <summary>The part of its status that we read.</summary>
public sealed class VirtualMachineInstanceStatus
{
    /// <summary>Pending, Scheduling, Scheduled, Running, Succeeded, Failed or Unknown.</summary>
    public string? Phase { get; set; }

    /// <summary>The node that it runs on.</summary>
    public string? NodeName { get; set; }

    /// <summary>Uids of its launcher pods and their nodes; during a migration there are two.</summary>
    public Dictionary<string, string>? ActivePods { get; set; }

    /// <summary>The migration under way, or the last one.</summary>
    public VmiMigrationState? MigrationState { get; set; }

    /// <summary>Conditions, Paused among them.</summary>
    public List<VmiCondition>? Conditions { get; set; }

    /// <summary>The memory, including what was plugged.</summary>
    public VmiMemory? Memory { get; set; }

    /// <summary>The status of its volumes, including hotplugged ones.</summary>
    public List<VmiVolumeStatus>? VolumeStatus { get; set; }
}

/// <summary>A condition; KubeVirt's are older than metav1.Condition.</summary>
public sealed class VmiCondition
{
    /// <summary>The type.</summary>
    public string Type { get; set; } = "";

    /// <summary>True, False or Unknown.</summary>
    public string? Status { get; set; }

    /// <summary>The reason, such as PausedByUser.</summary>
    public string? Reason { get; set; }

    /// <summary>The message.</summary>
    public string? Message { get; set; }
}

/// <summary>The status of a volume.</summary>
public sealed class VmiVolumeStatus
{
    /// <summary>The name.</summary>
    public string Name { get; set; } = "";

    /// <summary>Size in bytes of a volume that is not on a claim.</summary>
    public long? Size { get; set; }

    /// <summary>The memory dump that is written to it.</summary>
    public VmiMemoryDump? MemoryDumpVolume { get; set; }
}

/// <summary>A dump of the memory.</summary>
public sealed class VmiMemoryDump
{
    /// <summary>When it began.</summary>
    public DateTime? StartTimestamp { get; set; }

    /// <summary>When it ended.</summary>
    public DateTime? EndTimestamp { get; set; }
}

/// <summary>A migration.</summary>
public sealed class VmiMigrationState
{
    /// <summary>It has succeeded.</summary>
    public bool? Completed { get; set; }

    /// <summary>It has failed.</summary>
    public bool? Failed { get; set; }

    /// <summary>The target node.</summary>
    public string? TargetNode { get; set; }
}
