using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using Bgsnap.Crds.Schema;
using k8s;
using k8s.Models;

namespace Bgsnap.Crds.V1Alpha1;

/// <summary>Brings a snapshot back as a running virtual machine, once.</summary>
[KubernetesEntity(Group = Names.Group, ApiVersion = Names.Version, Kind = KubeKind, PluralName = "vmbackgroundrestores")]
[ResourceNames("vmbackgroundrestore", "vmbgr")]
[Description(
    "Brings a snapshot back as a running virtual machine: its disks, RAM and device state go into a waiting pod, or into claims "
        + "and a pod or KubeVirt VirtualMachine that are made for it. Done once; another restore of the same snapshot is another object."
)]
[Cel("size(self.metadata.name) <= 63", "metadata.name: at most 63 characters, since it is part of pods' names")]
[PrinterColumn("Snapshot", "string", ".spec.snapshotName")]
[PrinterColumn("Pod", "string", ".status.podName")]
[PrinterColumn("Phase", "string", ".status.phase")]
[PrinterColumn("Progress", "string", ".status.progress.text")]
[PrinterColumn("Time-to-run", "string", ".status.timeToRun")]
[PrinterColumn("Node", "string", ".status.nodeName", 1)]
[PrinterColumn("Reason", "string", ".status.conditions[?(@.type==\"Ready\")].reason", 1)]
[PrinterColumn("Age", "date", ".metadata.creationTimestamp")]
public sealed class VMBackgroundRestore : IKubernetesObject<V1ObjectMeta>, ISpec<RestoreSpec>, IStatus<RestoreStatus?>
{
    /// <summary>The kind's name.</summary>
    public const string KubeKind = "VMBackgroundRestore";

    /// <inheritdoc/>
    public string ApiVersion { get; set; } = $"{Names.Group}/{Names.Version}";

    /// <inheritdoc/>
    public string Kind { get; set; } = KubeKind;

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <inheritdoc/>
    [Required]
    [Description("What to restore and where to. It cannot be changed: make another restore.")]
    [Cel("self == oldSelf", "spec cannot be changed: a restore is done once; create another VMBackgroundRestore instead")]
    public RestoreSpec Spec { get; set; } = new();

    /// <inheritdoc/>
    [Description("What has become of it. Written by the bgsnap operator alone.")]
    public RestoreStatus? Status { get; set; }
}
