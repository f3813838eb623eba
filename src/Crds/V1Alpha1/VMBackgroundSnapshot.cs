using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using Bgsnap.Crds.Schema;
using k8s;
using k8s.Models;

namespace Bgsnap.Crds.V1Alpha1;

/// <summary>A background snapshot of one running virtual machine.</summary>
[KubernetesEntity(Group = Names.Group, ApiVersion = Names.Version, Kind = KubeKind, PluralName = "vmbackgroundsnapshots")]
[ResourceNames("vmbackgroundsnapshot", "vmbgs")]
[Description(
    "A background snapshot of one running virtual machine: RAM and device state at one instant, written to a "
        + "PersistentVolumeClaim while the guest runs on."
)]
[Cel("size(self.metadata.name) <= 63", "metadata.name: at most 63 characters, since it is part of a directory's and of pods' names")]
[PrinterColumn("VM", "string", ".spec.source.name")]
[PrinterColumn("Phase", "string", ".status.phase")]
[PrinterColumn("Progress", "string", ".status.progress.text")]
[PrinterColumn("Downtime", "string", ".status.downtime")]
[PrinterColumn("Size", "string", ".status.size")]
[PrinterColumn("Node", "string", ".status.nodeName")]
[PrinterColumn("Point in time", "date", ".status.pointInTime", 1)]
[PrinterColumn("Reason", "string", ".status.conditions[?(@.type==\"Ready\")].reason", 1)]
[PrinterColumn("Age", "date", ".metadata.creationTimestamp")]
public sealed class VMBackgroundSnapshot : IKubernetesObject<V1ObjectMeta>, ISpec<SnapshotSpec>, IStatus<SnapshotStatus?>
{
    /// <summary>The kind's name.</summary>
    public const string KubeKind = "VMBackgroundSnapshot";

    /// <inheritdoc/>
    public string ApiVersion { get; set; } = $"{Names.Group}/{Names.Version}";

    /// <inheritdoc/>
    public string Kind { get; set; } = KubeKind;

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <inheritdoc/>
    [Required]
    [Description("What to capture, where to, and how. It cannot be changed: make another snapshot.")]
    [Cel("self == oldSelf", "spec cannot be changed: a snapshot is of one moment; create another VMBackgroundSnapshot instead")]
    public SnapshotSpec Spec { get; set; } = new();

    /// <inheritdoc/>
    [Description("What has become of it. Written by the bgsnap operator alone.")]
    public SnapshotStatus? Status { get; set; }
}
