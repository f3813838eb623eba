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

    /// <summary>What it is to be.</summary>
    public VirtualMachineInstanceSpec Spec { get; set; } = new();

    /// <summary>What it is.</summary>
    public VirtualMachineInstanceStatus? Status { get; set; }
}

/// <summary>Part of its spec.</summary>
public sealed class VirtualMachineInstanceSpec
{
    /// <summary>The machine.</summary>
    public VmiDomain Domain { get; set; } = new();

    /// <summary>What its disks are made of.</summary>
    public List<VmiVolume>? Volumes { get; set; }
}

/// <summary>The machine.</summary>
public sealed class VmiDomain
{
    /// <summary>Its devices.</summary>
    public VmiDevices? Devices { get; set; }

    /// <summary>Its memory.</summary>
    public VmiMemory? Memory { get; set; }

    /// <summary>Its firmware.</summary>
    public VmiFirmware? Firmware { get; set; }

    /// <summary>Set: its memory is encrypted (SEV, SNP, TDX), or its firmware is IBM's secure one.</summary>
    public VmiEmpty? LaunchSecurity { get; set; }
}

/// <summary>The memory.</summary>
public sealed class VmiMemory
{
    /// <summary>As the guest sees it, a quantity.</summary>
    public string? Guest { get; set; }

    /// <summary>In the status: the same now, with what was plugged since its start.</summary>
    public string? GuestCurrent { get; set; }

    /// <summary>In the status: what it began with.</summary>
    public string? GuestAtBoot { get; set; }

    /// <summary>In the status: what it is to get.</summary>
    public string? GuestRequested { get; set; }
}

/// <summary>The firmware.</summary>
public sealed class VmiFirmware
{
    /// <summary>UUID of the machine, libvirt's domain's too.</summary>
    public string? Uuid { get; set; }
}

/// <summary>Devices that matter to a capture.</summary>
public sealed class VmiDevices
{
    /// <summary>Passed through by VFIO.</summary>
    public List<VmiNamed>? Gpus { get; set; }

    /// <summary>Passed through by VFIO.</summary>
    public List<VmiNamed>? HostDevices { get; set; }

    /// <summary>Folders of the host.</summary>
    public List<VmiFilesystem>? Filesystems { get; set; }

    /// <summary>Network interfaces.</summary>
    public List<VmiInterface>? Interfaces { get; set; }

    /// <summary>Disks.</summary>
    public List<VmiDisk>? Disks { get; set; }
}

/// <summary>A disk.</summary>
public sealed class VmiDisk
{
    /// <summary>The name, its volume's too.</summary>
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

/// <summary>A folder of the host.</summary>
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

    /// <summary>The plugin that connects it, if one does.</summary>
    public VmiNamed? Binding { get; set; }
}

/// <summary>An object that says something by being there.</summary>
public sealed class VmiEmpty;

/// <summary>What a disk is made of.</summary>
public sealed class VmiVolume
{
    /// <summary>The name.</summary>
    public string Name { get; set; } = "";

    /// <summary>A claim.</summary>
    public V1PersistentVolumeClaimVolumeSource? PersistentVolumeClaim { get; set; }

    /// <summary>A DataVolume; its claim has its name.</summary>
    public VmiNamed? DataVolume { get; set; }

    /// <summary>A claim that is only read; what is written is lost with the pod.</summary>
    public VmiEphemeral? Ephemeral { get; set; }
}

/// <summary>A claim that is only read.</summary>
public sealed class VmiEphemeral
{
    /// <summary>The claim.</summary>
    public V1PersistentVolumeClaimVolumeSource? PersistentVolumeClaim { get; set; }
}

/// <summary>Part of its status.</summary>
public sealed class VirtualMachineInstanceStatus
{
    /// <summary>Pending, Scheduling, Scheduled, Running, Succeeded, Failed or Unknown.</summary>
    public string? Phase { get; set; }

    /// <summary>Where it runs.</summary>
    public string? NodeName { get; set; }

    /// <summary>Uids of its launcher pods with their nodes; during a migration there are two.</summary>
    public Dictionary<string, string>? ActivePods { get; set; }

    /// <summary>The migration under way, or the last one.</summary>
    public VmiMigrationState? MigrationState { get; set; }

    /// <summary>Conditions, Paused among them.</summary>
    public List<VmiCondition>? Conditions { get; set; }

    /// <summary>Memory with what was plugged.</summary>
    public VmiMemory? Memory { get; set; }

    /// <summary>How its volumes are, hotplugged ones too.</summary>
    public List<VmiVolumeStatus>? VolumeStatus { get; set; }
}

/// <summary>A condition; KubeVirt's are older than metav1.Condition.</summary>
public sealed class VmiCondition
{
    /// <summary>The type.</summary>
    public string Type { get; set; } = "";

    /// <summary>True, False or Unknown.</summary>
    public string? Status { get; set; }

    /// <summary>In one word, such as PausedByUser.</summary>
    public string? Reason { get; set; }

    /// <summary>In words.</summary>
    public string? Message { get; set; }
}

/// <summary>How a volume is.</summary>
public sealed class VmiVolumeStatus
{
    /// <summary>The name.</summary>
    public string Name { get; set; } = "";

    /// <summary>Bytes, of what is on no claim.</summary>
    public long? Size { get; set; }

    /// <summary>A dump of the memory to it.</summary>
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
    /// <summary>It succeeded.</summary>
    public bool? Completed { get; set; }

    /// <summary>It failed.</summary>
    public bool? Failed { get; set; }

    /// <summary>Where to.</summary>
    public string? TargetNode { get; set; }
}
