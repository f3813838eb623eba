using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using Bgsnap.Crds.Schema;
using k8s;
using k8s.Models;

namespace Bgsnap.Crds.V1Alpha1;

/// <summary>The operator's order to one node's agent.</summary>
[KubernetesEntity(Group = Names.Group, ApiVersion = Names.Version, Kind = KubeKind, PluralName = "snapshottasks")]
[ResourceNames("snapshottask", "vmbgtask")]
[Description(
    "Internal: the bgsnap operator's order to the agent of one node. bgsnap creates, reads and removes it; users create "
        + "VMBackgroundSnapshots."
)]
[PrinterColumn("Action", "string", ".spec.action")]
[PrinterColumn("Node", "string", ".spec.nodeName")]
[PrinterColumn("Phase", "string", ".status.phase")]
[PrinterColumn("Progress", "integer", ".status.percent")]
[PrinterColumn("Reason", "string", ".status.reason", 1)]
[PrinterColumn("Age", "date", ".metadata.creationTimestamp")]
public sealed class SnapshotTask : IKubernetesObject<V1ObjectMeta>, ISpec<SnapshotTaskSpec>, IStatus<SnapshotTaskStatus?>
{
    /// <summary>The kind's name.</summary>
    public const string KubeKind = "SnapshotTask";

    /// <inheritdoc/>
    public string ApiVersion { get; set; } = $"{Names.Group}/{Names.Version}";

    /// <inheritdoc/>
    public string Kind { get; set; } = KubeKind;

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <inheritdoc/>
    [Required]
    [Description("The order. Only cancel, release and volumeSnapshots can be changed.")]
    [Cel(
        "self.action == oldSelf.action && self.nodeName == oldSelf.nodeName && self.directory == oldSelf.directory && "
            + "self.carrier == oldSelf.carrier && has(self.source) == has(oldSelf.source) && (!has(self.source) || self.source == "
            + "oldSelf.source) && has(self.capture) == has(oldSelf.capture) && (!has(self.capture) || self.capture == oldSelf.capture)",
        "spec: only cancel, release and volumeSnapshots can be changed"
    )]
    [Cel("self.action != 'Capture' || has(self.source)", "spec.source: needed to capture")]
    [Cel(
        "has(self.target) == has(oldSelf.target) && (!has(self.target) || self.target == oldSelf.target) && has(self.restore) == "
            + "has(oldSelf.restore) && (!has(self.restore) || self.restore == oldSelf.restore) && has(self.disks) == "
            + "has(oldSelf.disks) "
            + "&& (!has(self.disks) || self.disks == oldSelf.disks)",
        "spec: target, restore and disks cannot be changed"
    )]
    [Cel("self.action != 'Restore' || has(self.target)", "spec.target: needed to restore")]
    [Cel("self.action != 'RestoreDisks' || has(self.disks)", "spec.disks: needed to restore disks")]
    public SnapshotTaskSpec Spec { get; set; } = new();

    /// <inheritdoc/>
    [Description("What the agent reports.")]
    public SnapshotTaskStatus? Status { get; set; }
}

/// <summary>The order.</summary>
public sealed class SnapshotTaskSpec
{
    /// <summary>One of <see cref="TaskAction"/>.</summary>
    [Required]
    [Description(
        "Capture writes the directory, Delete removes it, Restore loads it into a waiting QEMU, RestoreDisks writes its disks to "
            + "the claims that the carrier mounts, Describe reads the stored description of a KubeVirt VM."
    )]
    [AllowedValues(TaskAction.Capture, TaskAction.Delete, TaskAction.Restore, TaskAction.RestoreDisks, TaskAction.Describe)]
    public string Action { get; set; } = TaskAction.Capture;

    /// <summary>The node whose agent is meant.</summary>
    [Required]
    [Description("Node whose agent takes the task.")]
    [StringLength(253, MinimumLength = 1)]
    public string NodeName { get; set; } = "";

    /// <summary>Name of the snapshot's directory.</summary>
    [Required]
    [Description("Name of the snapshot's directory on the claim: one path component.")]
    [Cel(
        "self.matches('^[a-z0-9][a-z0-9.-]{0,79}$')",
        "spec.directory: one path component of at most 80 lower-case letters, digits, '-' and '.'"
    )]
    [StringLength(80)]
    public string Directory { get; set; } = "";

    /// <summary>The pod that mounts the claim.</summary>
    [Required]
    [Description("The pod on that node that mounts the claim.")]
    public PodTarget Carrier { get; set; } = new();

    /// <summary>The pod that runs the VM.</summary>
    [Description("The pod that runs the VM, and how to reach its QEMU.")]
    public VirtualMachineTarget? Source { get; set; }

    /// <summary>How to capture.</summary>
    [Description("How to capture.")]
    public CaptureSpec? Capture { get; set; }

    /// <summary>The pod whose QEMU waits.</summary>
    [Description("To restore: the pod whose QEMU waits for the snapshot (-incoming defer), and how to reach it.")]
    public VirtualMachineTarget? Target { get; set; }

    /// <summary>How to restore.</summary>
    [Description("How to restore.")]
    public TaskRestore? Restore { get; set; }

    /// <summary>The disks to write.</summary>
    [Description("To restore disks: which disks, and the target paths in the carrier's container.")]
    [ListMapKey("name")]
    [MaxItems(64)]
    public List<TaskDisk>? Disks { get; set; }

    /// <summary>Give it up.</summary>
    [Description("Cancels the task: the guest resumes and nothing is kept.")]
    public bool? Cancel { get; set; }

    /// <summary>The guest may go on.</summary>
    [Description("Set when status.holding was true and every VolumeSnapshot is taken: the guest may resume.")]
    public bool? Release { get; set; }

    /// <summary>VolumeSnapshots by disk, for the manifest.</summary>
    [Description("With release: the VolumeSnapshot of each disk, by the disk's name as in status.result.disks.")]
    [MapLimits(64, 253)]
    public Dictionary<string, string>? VolumeSnapshots { get; set; }
}

/// <summary>Names a container of a pod.</summary>
public class PodTarget
{
    /// <summary>Pod name.</summary>
    [Required]
    [Description("Name of the pod, in the task's namespace.")]
    [StringLength(253, MinimumLength = 1)]
    public string PodName { get; set; } = "";

    /// <summary>Pod uid.</summary>
    [Required]
    [Description("UID of the pod, to exclude another pod of that name.")]
    [StringLength(63, MinimumLength = 1)]
    public string PodUID { get; set; } = "";

    /// <summary>Container name.</summary>
    [Required]
    [Description("Name of the container in it.")]
    [StringLength(63, MinimumLength = 1)]
    public string Container { get; set; } = "";
}

/// <summary>Names the VM in a pod.</summary>
[Cel(
    "has(self.qmpSocket) != has(self.libvirtDomain)",
    "spec: set exactly one of qmpSocket (QEMU's monitor is ours) and libvirtDomain (it is libvirt's)"
)]
public sealed class VirtualMachineTarget : PodTarget
{
    /// <summary>QMP socket in the container; null: the monitor is libvirt's.</summary>
    [Description("Absolute path of QEMU's QMP socket, as the container sees it.")]
    [Cel("self.startsWith('/')", "spec: qmpSocket must be an absolute path in the container")]
    [StringLength(1024)]
    public string? QmpSocket { get; set; }

    /// <summary>The domain of the container's libvirt; null: the monitor is reached by <see cref="QmpSocket"/>.</summary>
    [Description("Name of the domain of the libvirt in the container, which owns QEMU's monitor. QEMU is known by it (-name guest=).")]
    [StringLength(512, MinimumLength = 1)]
    public string? LibvirtDomain { get; set; }

    /// <summary>The domain's UUID, or null.</summary>
    [Description("UUID of that domain (-uuid); not set: any.")]
    [Cel(
        "self.matches('^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$')",
        "spec: uuid is one such as 5a1b0d0e-6c1f-4a53-9a5e-0f2c8f1d2e3a"
    )]
    [StringLength(36)]
    public string? Uuid { get; set; }

    /// <summary>The VM's own objects, kept with the snapshot.</summary>
    [Description(
        "The VM's Kubernetes objects, a v1 List as JSON text, stored with the snapshot so that a restore can " + "recreate the VM."
    )]
    [StringLength(MaxObjectsLength)]
    public string? Objects { get; set; }

    /// <summary>Most characters of <see cref="Objects"/>; one object of Kubernetes, this one too, has at most about 1.5 MB.</summary>
    public const int MaxObjectsLength = 512 * 1024;

    /// <summary>The guest agent's socket in the container, or null.</summary>
    [Description("Absolute path of the QEMU guest agent's socket, as the container sees it; not set: the VM has none.")]
    [Cel("self.startsWith('/')", "spec.source.guestAgentSocket: an absolute path in the container")]
    [StringLength(1024)]
    public string? GuestAgentSocket { get; set; }

    /// <summary>Name of the VM for the manifest.</summary>
    [Description("Name of the virtual machine, for the manifest.")]
    [StringLength(253)]
    public string? Name { get; set; }
}

/// <summary>Values of <see cref="SnapshotTaskSpec.Action"/>.</summary>
public static class TaskAction
{
    /// <summary>Write a snapshot.</summary>
    public const string Capture = "Capture";

    /// <summary>Remove a snapshot's directory.</summary>
    public const string Delete = "Delete";

    /// <summary>Load a snapshot into a QEMU that waits for it.</summary>
    public const string Restore = "Restore";

    /// <summary>Write a snapshot's disks to claims.</summary>
    public const string RestoreDisks = "RestoreDisks";

    /// <summary>Read what the snapshot of a KubeVirt VM keeps of its objects.</summary>
    public const string Describe = "Describe";
}

/// <summary>What the agent reports.</summary>
public sealed class SnapshotTaskStatus
{
    /// <summary>One of <see cref="TaskPhase"/>.</summary>
    [Description("Running, Succeeded or Failed; not set: no agent has taken the task yet.")]
    [AllowedValues(TaskPhase.Running, TaskPhase.Succeeded, TaskPhase.Failed)]
    public string? Phase { get; set; }

    /// <summary>Why it failed, in one word.</summary>
    [Description("Why it failed, in one word; of a restore that succeeded: what remains to be done manually.")]
    public string? Reason { get; set; }

    /// <summary>The same in words.</summary>
    [Description("Why it failed and how to fix it.")]
    public string? Message { get; set; }

    /// <summary>Which agent works at it.</summary>
    [Description("UID of the agent process that works on the task: another process detects by it that the work died.")]
    public string? AgentRun { get; set; }

    /// <summary>When it was taken.</summary>
    [Description("When the agent took the task.")]
    public DateTime? StartTime { get; set; }

    /// <summary>When it ended.</summary>
    [Description("When the task ended.")]
    public DateTime? CompletionTime { get; set; }

    /// <summary>Share that is done.</summary>
    [Description("Progress in percent.")]
    [Range(0, 100)]
    public int? Percent { get; set; }

    /// <summary>Bytes of RAM done.</summary>
    [Description("Bytes of guest RAM and disks done.")]
    public long? Bytes { get; set; }

    /// <summary>Bytes per second.</summary>
    [Description("Bytes per second.")]
    public long? BytesPerSecond { get; set; }

    /// <summary>Whether the cut is made.</summary>
    [Description("The instant that the snapshot shows, once it is fixed.")]
    public DateTime? PointInTime { get; set; }

    /// <summary>The guest is stopped and waits for <see cref="SnapshotTaskSpec.Release"/>.</summary>
    [Description(
        "The guest is stopped and waits for spec.release (diskMethod VolumeSnapshot); result.disks names the disks. It waits "
            + "no longer than maxDowntime."
    )]
    public bool? Holding { get; set; }

    /// <summary>The guest of a restore runs.</summary>
    [Description(
        "Of a restore: the guest runs. While phase is Running its RAM still arrives, and the claim is needed; reason and "
            + "message say why, if none arrives."
    )]
    public bool? GuestRuns { get; set; }

    /// <summary>What a Describe found.</summary>
    [Description("Of a Describe: the stored description of the machine.")]
    public MachineDescription? Machine { get; set; }

    /// <summary>What was measured.</summary>
    [Description(
        "What the finished capture measured; while holding, its disks; of a restore whose guest runs, what it has measured so far."
    )]
    public CaptureResult? Result { get; set; }
}

/// <summary>What the snapshot of a KubeVirt VM keeps of it.</summary>
public sealed class MachineDescription
{
    /// <summary>Its Kubernetes objects.</summary>
    [Description("The VM's Kubernetes objects: a v1 List as JSON.")]
    [StringLength(VirtualMachineTarget.MaxObjectsLength)]
    public string? Objects { get; set; }

    /// <summary>libvirt's domain.</summary>
    [Description("libvirt's description of the machine: its migratable XML.")]
    [StringLength(MaxXmlLength)]
    public string? DomainXml { get; set; }

    /// <summary>Most characters of <see cref="DomainXml"/>.</summary>
    public const int MaxXmlLength = 128 * 1024;
}

/// <summary>What a finished capture measured.</summary>
public sealed class CaptureResult
{
    /// <summary>Stop window.</summary>
    [Description("Length of the stop window in microseconds.")]
    public long? DowntimeMicroseconds { get; set; }

    /// <summary>Protection window.</summary>
    [Description("Length of the protection window in microseconds.")]
    public long? ProtectionWindowMicroseconds { get; set; }

    /// <summary>Whole capture.</summary>
    [Description("Time of the whole capture in microseconds.")]
    public long? TotalMicroseconds { get; set; }

    /// <summary>Faults.</summary>
    [Description("Guest writes to pages that were not copied yet.")]
    public long? Faults { get; set; }

    /// <summary>Half of the faults took at most this.</summary>
    [Description("Median service time of a fault in microseconds.")]
    public long? FaultP50Microseconds { get; set; }

    /// <summary>99 of 100 faults took at most this.</summary>
    [Description("99th percentile of the service time of faults in microseconds.")]
    public long? FaultP99Microseconds { get; set; }

    /// <summary>No fault took longer.</summary>
    [Description("Longest service time of a fault in microseconds.")]
    public long? FaultMaxMicroseconds { get; set; }

    /// <summary>Bytes of RAM.</summary>
    [Description("Bytes of guest RAM.")]
    public long? RamBytes { get; set; }

    /// <summary>Bytes stored.</summary>
    [Description("Bytes that the snapshot occupies on the claim.")]
    public long? StoredBytes { get; set; }

    /// <summary>Engine.</summary>
    [Description("Engine that was used: Agent or Qemu.")]
    public string? Engine { get; set; }

    /// <summary>Why that engine.</summary>
    [Description("Why that engine was used.")]
    public string? EngineReason { get; set; }

    /// <summary>Restore: until the guest ran.</summary>
    [Description("Of a restore: time from the start of the agent's task until the guest ran, in microseconds.")]
    public long? TimeToRunMicroseconds { get; set; }

    /// <summary>Restore: the mode that was used.</summary>
    [Description("Of a restore: the mode that was used: Instant, Eager or Stream.")]
    public string? RestoreMode { get; set; }

    /// <summary>Why that mode.</summary>
    [Description("Of a restore: why that mode was used.")]
    public string? RestoreModeReason { get; set; }

    /// <summary>How consistent it is, as <see cref="SnapshotIndication"/> says.</summary>
    [Description("How the guest was captured: Online, with GuestAgent, NoGuestAgent, QuiesceFailed or Paused.")]
    public List<string>? Indications { get; set; }

    /// <summary>How disks were captured.</summary>
    [Description("How disks were captured: CopyBeforeWrite, Overlay, VolumeSnapshot, or None.")]
    public string? DiskMethod { get; set; }

    /// <summary>Why in that way.</summary>
    [Description("Why that method was used.")]
    public string? DiskMethodReason { get; set; }

    /// <summary>The VM's disks.</summary>
    [Description("The VM's disks.")]
    public List<DiskStatus>? Disks { get; set; }

    /// <summary>Checksum of the manifest.</summary>
    [Description("Checksum of snapshot.json, sha256:<hex>.")]
    public string? ManifestChecksum { get; set; }
}

/// <summary>Values of <see cref="SnapshotTaskStatus.Phase"/>.</summary>
public static class TaskPhase
{
    /// <summary>The agent is at it.</summary>
    public const string Running = "Running";

    /// <summary>Done.</summary>
    public const string Succeeded = "Succeeded";

    /// <summary>Given up.</summary>
    public const string Failed = "Failed";

    /// <summary>Whether it has ended.</summary>
    public static bool IsTerminal(string? phase) => phase is Succeeded or Failed;
}
