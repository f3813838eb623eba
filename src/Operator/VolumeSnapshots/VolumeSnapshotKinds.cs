using Bgsnap.Crds.Client;
using Bgsnap.Operator.Kube;
using k8s;
using k8s.Models;

namespace Bgsnap.Operator.VolumeSnapshots;

/// <summary>The kinds of <c>snapshot.storage.k8s.io/v1</c>, as far as we read and write them.</summary>
/// <remarks>Source: kubernetes-csi/external-snapshotter, client/apis/volumesnapshot/v1.</remarks>
internal static class VolumeSnapshotKinds
{
    /// <summary>The API group.</summary>
    public const string Group = "snapshot.storage.k8s.io";

    /// <summary>Annotation of a class that is taken when none is named, of its driver.</summary>
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

    /// <summary>Of what.</summary>
    public VolumeSnapshotSpec Spec { get; set; } = new();

    /// <summary>What has become of it.</summary>
    public VolumeSnapshotStatus? Status { get; set; }
}

/// <summary>Of what a snapshot is made.</summary>
internal sealed class VolumeSnapshotSpec
{
    /// <summary>Its class; null: the default one.</summary>
    public string? VolumeSnapshotClassName { get; set; }

    /// <summary>The claim.</summary>
    public VolumeSnapshotSource Source { get; set; } = new();
}

/// <summary>The claim.</summary>
internal sealed class VolumeSnapshotSource
{
    /// <summary>Its name.</summary>
    public string? PersistentVolumeClaimName { get; set; }
}

/// <summary>What has become of a snapshot.</summary>
internal sealed class VolumeSnapshotStatus
{
    /// <summary>The instant that it shows; set: the cut is made, and the claim may be written to again.</summary>
    public DateTime? CreationTime { get; set; }

    /// <summary>A volume can be made from it.</summary>
    public bool? ReadyToUse { get; set; }

    /// <summary>What went wrong last; the snapshot controller may try again.</summary>
    public VolumeSnapshotError? Error { get; set; }
}

/// <summary>What went wrong.</summary>
internal sealed class VolumeSnapshotError
{
    /// <summary>In words.</summary>
    public string? Message { get; set; }
}

/// <summary>How snapshots of a driver are made.</summary>
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

    /// <summary>What becomes of the storage's snapshot when the VolumeSnapshot is deleted: Delete or Retain.</summary>
    public string DeletionPolicy { get; set; } = "Delete";
}
