namespace Bgsnap.Vocabulary;

// Reasons of VolumeSnapshots, from the operator.
public static partial class Reasons
{
    [Reason(
        ReasonFamily.VolumeSnapshot,
        Seen.Failed,
        "A disk is not on a claim of the VM's pod",
        "Name the disks that are, in `spec.capture.disks`, or choose another method"
    )]
    public const string DiskNotOnClaim = nameof(DiskNotOnClaim);

    [Reason(
        ReasonFamily.VolumeSnapshot,
        Seen.Waiting,
        "The guest is stopped while the storage makes VolumeSnapshots of its disks",
        "Wait: the guest runs again after `maxDowntime` at the latest"
    )]
    public const string GuestHeld = nameof(GuestHeld);

    [Reason(ReasonFamily.VolumeSnapshot, Seen.Failed, "No volume of the VM's container is a claim", "Choose another method")]
    public const string NoClaims = nameof(NoClaims);

    [Reason(
        ReasonFamily.VolumeSnapshot,
        Seen.Failed,
        "No VolumeSnapshotClass is the cluster's default",
        "Name one in `spec.capture.volumeSnapshotClassName`"
    )]
    public const string NoDefaultVolumeSnapshotClass = nameof(NoDefaultVolumeSnapshotClass);

    [Reason(ReasonFamily.VolumeSnapshot, Seen.Failed, "The VM has no disk to make a VolumeSnapshot of", "Choose another method")]
    public const string NoDisks = nameof(NoDisks);

    [Reason(
        ReasonFamily.VolumeSnapshot,
        Seen.Failed,
        "There is no VolumeSnapshotClass of that name",
        "Name one that `kubectl get volumesnapshotclasses` lists"
    )]
    public const string VolumeSnapshotClassNotFound = nameof(VolumeSnapshotClassNotFound);

    [Reason(
        ReasonFamily.VolumeSnapshot,
        Seen.Failed,
        "The VolumeSnapshotClass is of another CSI driver than the claim",
        "Name a class of the claim's driver"
    )]
    public const string VolumeSnapshotClassOfOtherDriver = nameof(VolumeSnapshotClassOfOtherDriver);

    [Reason(
        ReasonFamily.VolumeSnapshot,
        Seen.Failed,
        "The storage could not make a VolumeSnapshot; its words follow",
        "See the CSI driver's log, then create another snapshot"
    )]
    public const string VolumeSnapshotFailed = nameof(VolumeSnapshotFailed);

    [Reason(
        ReasonFamily.VolumeSnapshot,
        Seen.Failed,
        "Somebody deleted a VolumeSnapshot before the snapshot was Ready",
        "Create another snapshot"
    )]
    public const string VolumeSnapshotLost = nameof(VolumeSnapshotLost);

    [Reason(
        ReasonFamily.VolumeSnapshot,
        Seen.Failed,
        "The API server rejected a VolumeSnapshot; its words follow",
        "Do what the message says, then create another snapshot"
    )]
    public const string VolumeSnapshotRefused = nameof(VolumeSnapshotRefused);

    [Reason(
        ReasonFamily.VolumeSnapshot,
        Seen.Failed,
        "The cluster does not serve `snapshot.storage.k8s.io/v1`",
        "Install the CRDs and the controller of kubernetes-csi/external-snapshotter"
    )]
    public const string VolumeSnapshotsNotServed = nameof(VolumeSnapshotsNotServed);

    [Reason(ReasonFamily.VolumeSnapshot, Seen.Waiting, "The guest runs on; the storage has not finished its VolumeSnapshots", "Wait")]
    public const string WaitingForVolumeSnapshots = nameof(WaitingForVolumeSnapshots);
}
