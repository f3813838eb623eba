using Bgsnap.Crds.V1Alpha1;
using k8s.Models;

namespace Bgsnap.Operator.Shared;

/// <summary>A disk of the snapshot, its claim, and where the VM's container has that claim.</summary>
/// <param name="Disk">The disk.</param>
/// <param name="Claim">The claim.</param>
/// <param name="Path">Path of its file or device in the container.</param>
/// <param name="Mount">Where the container mounts the claim; null: the claim is a device at <paramref name="Path"/>.</param>
internal sealed record PlannedDisk(DiskStatus Disk, RestoreClaim Claim, string Path, V1VolumeMount? Mount)
{
    /// <summary>Whether an agent fills the claim from the snapshot's files; otherwise it is created from a VolumeSnapshot.</summary>
    public bool IsWritten => Disk.VolumeSnapshotName is null;

    /// <summary>The format with which QEMU will open it.</summary>
    public string Driver { get; init; } = Disk.Driver ?? "raw";
}
