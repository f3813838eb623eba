using System.Security.Cryptography;
using System.Text;

namespace Bgsnap.Crds.V1Alpha1;

/// <summary>Names that objects carry: group, labels, annotations, finalizer.</summary>
public static class Names
{
    /// <summary>The API group.</summary>
    public const string Group = "bgsnap.io";

    /// <summary>The API version.</summary>
    public const string Version = "v1alpha1";

    /// <summary>Finalizer of a snapshot: its files and helpers go before it does.</summary>
    public const string Finalizer = "bgsnap.io/snapshot";

    /// <summary>Annotation of a pod that runs a VM: the path of QEMU's QMP socket inside the container.</summary>
    public const string QmpSocketAnnotation = "bgsnap.io/qmp-socket";

    /// <summary>Annotation of a pod that runs a VM: which container holds QEMU, where the pod has several.</summary>
    public const string ContainerAnnotation = "bgsnap.io/container";

    /// <summary>Annotation of a snapshot, <c>"true"</c>: its deletion leaves files behind that cannot be removed.</summary>
    public const string AbandonFilesAnnotation = "bgsnap.io/abandon-files";

    /// <summary>
    /// Annotation of a pod that runs a VM: the path of the QEMU guest agent's socket inside the container, where it has one.
    /// </summary>
    public const string GuestAgentSocketAnnotation = "bgsnap.io/guest-agent-socket";

    /// <summary>Label of a task: the node whose agent is to do it.</summary>
    public const string NodeLabel = "bgsnap.io/node";

    /// <summary>Label of everything made for a snapshot: the snapshot's uid.</summary>
    public const string SnapshotLabel = "bgsnap.io/snapshot-uid";

    /// <summary>Finalizer of a restore that is under way: what it made goes, unless a guest runs in it.</summary>
    public const string RestoreFinalizer = "bgsnap.io/restore";

    /// <summary>Label of everything made for a restore, the VM's pod and claims included: the restore's uid.</summary>
    public const string RestoreLabel = "bgsnap.io/restore-uid";

    /// <summary>Label of a snapshot that a schedule made: the schedule's name.</summary>
    public const string ScheduleLabel = "bgsnap.io/schedule";

    /// <summary>Annotation of a snapshot that a schedule made: the time for which it was made.</summary>
    public const string ScheduledAtAnnotation = "bgsnap.io/scheduled-at";

    /// <summary>Annotation of a KubeVirt VM that is restored: libvirt's XML of the captured one, for the hook sidecar.</summary>
    public const string CapturedDomainAnnotation = "bgsnap.io/captured-domain";

    /// <summary>Annotation of a VirtualMachine that is restored: the runStrategy that it gets when its guest runs.</summary>
    public const string RunStrategyAnnotation = "bgsnap.io/run-strategy";

    /// <summary>
    /// Annotation of a VirtualMachine that is put back: whose restore it is for, and the spec that it had, which it gets again should that
    /// fail.
    /// </summary>
    public const string BeforeAnnotation = "bgsnap.io/virtual-machine-before";

    /// <summary>Label of everything made by the operator.</summary>
    public const string ManagedByLabel = "app.kubernetes.io/managed-by";

    /// <summary>Value of <see cref="ManagedByLabel"/>.</summary>
    public const string ManagedBy = "bgsnap";

    /// <summary>Where a carrier pod mounts the claim.</summary>
    public const string CarrierMountPath = "/snapshots";

    /// <summary>The only container of a carrier pod.</summary>
    public const string CarrierContainer = "carrier";

    /// <summary>
    /// The value of <see cref="NodeLabel"/> for a node: its name, or, as a label has at most 63 characters, its beginning and a checksum.
    /// </summary>
    public static string NodeLabelValue(string node) =>
        node.Length <= 63
            ? node
            : $"{node[..54].TrimEnd('.', '-')}-{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(node)))[..8]}";
}
