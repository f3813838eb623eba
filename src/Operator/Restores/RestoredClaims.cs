using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;
using k8s.Models;

namespace Bgsnap.Operator.Restores;

/// <summary>The claims that we create for a restore's disks. They have no owner: the VM that uses them outlives the restore.</summary>
internal static class RestoredClaims
{
    private const decimal Mi = 1024 * 1024;

    /// <summary>Builds a claim.</summary>
    /// <exception cref="TerminalException">The claim would be too small for its disk.</exception>
    public static V1PersistentVolumeClaim Build(VMBackgroundRestore restore, PlannedDisk disk)
    {
        V1ObjectMeta metadata = RestoreNaming.Made(restore, disk.Claim.Name);
        metadata.OwnerReferences = null;
        return new V1PersistentVolumeClaim
        {
            ApiVersion = "v1",
            Kind = "PersistentVolumeClaim",
            Metadata = metadata,
            Spec = new V1PersistentVolumeClaimSpec
            {
                AccessModes = disk.Claim.AccessModes is { Count: > 0 } modes ? modes : ["ReadWriteOnce"],
                StorageClassName = disk.Claim.StorageClassName,
                VolumeMode = disk.Mount is null ? "Block" : null,
                Resources = new V1VolumeResourceRequirements
                {
                    Requests = new Dictionary<string, ResourceQuantity> { ["storage"] = new(Size(disk)) },
                },
                DataSource = disk.IsWritten
                    ? null
                    : new V1TypedLocalObjectReference
                    {
                        ApiGroup = "snapshot.storage.k8s.io",
                        Kind = "VolumeSnapshot",
                        Name = disk.Disk.VolumeSnapshotName,
                    },
            },
        };
    }

    /// <summary>The claim's size: the requested one, or else the disk's size with room for a file system.</summary>
    /// <exception cref="TerminalException">The requested size is smaller than the disk.</exception>
    public static string Size(PlannedDisk disk)
    {
        decimal bytes = disk.Disk.VirtualSize ?? 0;
        if (disk.Claim.Size is { } asked)
        {
            if (new ResourceQuantity(asked).ToDecimal() >= bytes)
                return asked;
            throw new TerminalException(
                Reasons.ClaimTooSmall,
                $"claim {disk.Claim.Name} ({asked}) is too small for disk {disk.Disk.Name} ({Durations.Size((long)bytes)}, "
                    + $"{bytes} bytes): raise its size or omit it, then create another restore"
            );
        }
        // 5 % for a file system's metadata and reserve, and 64 Mi for small ones.
        if (disk.Mount is not null)
            bytes = (bytes * 1.05m) + (64 * Mi);
        return $"{Math.Ceiling(bytes / Mi):0}Mi";
    }

    /// <summary>Checks that an existing claim can be used.</summary>
    /// <exception cref="TerminalException">It cannot.</exception>
    public static void Check(VMBackgroundRestore restore, V1PersistentVolumeClaim claim)
    {
        string name = claim.Metadata.Name;
        if (!RestoreNaming.IsOf(restore, claim.Metadata))
            throw new TerminalException(
                Reasons.ClaimExists,
                $"claim {name} already exists and does not belong to this restore, which would overwrite it: name another in the claims of "
                    + "spec.target, then create another restore"
            );
        if (claim.Metadata.DeletionTimestamp is not null)
            throw new TerminalException(
                Reasons.ClaimEnded,
                $"claim {name}, which was created for this restore, is being deleted: create another restore"
            );
        if (claim.Status?.Phase == "Lost")
            throw new TerminalException(Reasons.ClaimLost, $"claim {name} has lost its volume: create another restore");
    }
}
