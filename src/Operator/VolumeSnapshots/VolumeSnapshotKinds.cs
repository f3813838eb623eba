using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Operator.Kube;
using k8s;
using k8s.Models;

namespace Bgsnap.Operator.VolumeSnapshots;

/// <summary>The kinds of <c>snapshot.storage.k8s.io/v1</c>, with the fields that we read and write.</summary>
/// <remarks>Source: kubernetes-csi/external-snapshotter, client/apis/volumesnapshot/v1.</remarks>
internal static class VolumeSnapshotKinds
{
    /// <summary>The API group.</summary>
    public const string Group = "snapshot.storage.k8s.io";

    /// <summary>Annotation of the default class of its driver.</summary>
    public const string DefaultClassAnnotation = "snapshot.storage.kubernetes.io/is-default-class";

    /// <summary>VolumeSnapshots.</summary>
    public static ResourceType<VolumeSnapshot> Snapshots { get; } = CoreResources.Of<VolumeSnapshot>(Group, "v1", "volumesnapshots");

    /// <summary>VolumeSnapshotClasses; they have no namespace.</summary>
    public static ResourceType<VolumeSnapshotClass> Classes { get; } =
        CoreResources.Of<VolumeSnapshotClass>(Group, "v1", "volumesnapshotclasses");
}

/// <summary>A snapshot of a claim, made by its storage.</summary>
internal sealed class VolumeSnapshot : IKubernetesObject<V1ObjectMeta>
{
    /// <inheritdoc/>
    public string ApiVersion { get; set; } = VolumeSnapshotKinds.Group + "/v1";

    /// <inheritdoc/>
    public string Kind { get; set; } = "VolumeSnapshot";

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <summary>The desired state.</summary>
    public VolumeSnapshotSpec Spec { get; set; } = new();

    /// <summary>The observed state.</summary>
    public VolumeSnapshotStatus? Status { get; set; }
}

/// <summary>The source and class of a VolumeSnapshot.</summary>
internal sealed class VolumeSnapshotSpec
{
    /// <summary>Its class; null: the default one.</summary>
    public string? VolumeSnapshotClassName { get; set; }

    /// <summary>The claim to snapshot.</summary>
    public VolumeSnapshotSource Source { get; set; } = new();
}

/// <summary>The claim to snapshot.</summary>
internal sealed class VolumeSnapshotSource
{
    /// <summary>The claim's name.</summary>
    public string? PersistentVolumeClaimName { get; set; }
}

/// <summary>The state of a VolumeSnapshot.</summary>
internal sealed class VolumeSnapshotStatus
{
    /// <summary>The instant that it shows. Set: the cut is made, and the guest may write to the claim again.</summary>
    public DateTime? CreationTime { get; set; }

    /// <summary>Whether the storage can make a volume from it.</summary>
    public bool? ReadyToUse { get; set; }

    /// <summary>The last error; the snapshot controller may retry.</summary>
    public VolumeSnapshotError? Error { get; set; }
}

/// <summary>An error.</summary>
internal sealed class VolumeSnapshotError
{
    /// <summary>The message.</summary>
    public string? Message { get; set; }
}

/// <summary>The parameters for snapshots of one CSI driver.</summary>
internal sealed class VolumeSnapshotClass : IKubernetesObject<V1ObjectMeta>
{
    /// <inheritdoc/>
    public string ApiVersion { get; set; } = VolumeSnapshotKinds.Group + "/v1";

    /// <inheritdoc/>
    public string Kind { get; set; } = "VolumeSnapshotClass";

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <summary>The CSI driver.</summary>
    public string Driver { get; set; } = "";

    /// <summary>What happens to the storage's snapshot when the VolumeSnapshot is deleted: Delete or Retain.</summary>
    public string DeletionPolicy { get; set; } = "Delete";
}
