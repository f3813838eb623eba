using System.Security.Cryptography;
using System.Text;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using k8s.Models;

namespace Bgsnap.Operator.VolumeSnapshots;

/// <summary>The VolumeSnapshot of one claim of a VM.</summary>
internal static class VolumeSnapshotBuilder
{
    private const int LongestName = 253;

    /// <summary>
    /// Its name: the snapshot's directory and the claim's name, or a checksum of the claim's name if that would be too long.
    /// </summary>
    public static string NameFor(VMBackgroundSnapshot snapshot, string claim)
    {
        string name = $"{SnapshotNaming.Directory(snapshot)}-{claim}";
        return name.Length <= LongestName
            ? name
            : $"{SnapshotNaming.Directory(snapshot)}-{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(claim)))[..16]}";
    }

    /// <summary>Builds it. With deletionPolicy Delete the snapshot owns it; with Retain it has no owner and stays.</summary>
    public static VolumeSnapshot Build(VMBackgroundSnapshot snapshot, string claim)
    {
        V1ObjectMeta metadata = SnapshotNaming.Made(snapshot, NameFor(snapshot, claim));
        if (snapshot.Spec.DeletionPolicy == "Retain")
            metadata.OwnerReferences = null;
        return new VolumeSnapshot
        {
            Metadata = metadata,
            Spec = new VolumeSnapshotSpec
            {
                VolumeSnapshotClassName = snapshot.Spec.Capture?.VolumeSnapshotClassName,
                Source = new VolumeSnapshotSource { PersistentVolumeClaimName = claim },
            },
        };
    }
}
