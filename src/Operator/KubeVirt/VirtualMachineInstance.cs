using k8s.Models;

namespace Bgsnap.Operator.KubeVirt;

/// <summary>What we read of <c>kubevirt.io/v1</c> VirtualMachineInstance; the names are KubeVirt's.</summary>
public sealed class VirtualMachineInstance
{
    /// <summary>Name and uid.</summary>
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
