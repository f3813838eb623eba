namespace Bgsnap.Vocabulary;

// Reasons of restores, from the operator.
public static partial class Reasons
{
    [Reason(
        ReasonFamily.Restore,
        Seen.Failed,
        "The agent is older than the operator and cannot read the captured machine",
        "Upgrade the agent, then create another restore"
    )]
    public const string AgentTooOld = nameof(AgentTooOld);

    [Reason(ReasonFamily.Restore, Seen.Ready, "All of the guest's RAM has arrived; the snapshot's volume is no longer needed", "Nothing")]
    public const string AllRamArrived = nameof(AllRamArrived);

    [Reason(ReasonFamily.Restore, Seen.Failed, "No volume of the template's pod is the claim of a disk", "Add the volume to the template")]
    public const string ClaimNotInPod = nameof(ClaimNotInPod);

    [Reason(ReasonFamily.Restore, Seen.Waiting, "The operator creates the claims of the disks", "Wait")]
    public const string ClaimsStarting = nameof(ClaimsStarting);

    [Reason(ReasonFamily.Restore, Seen.Failed, "The claim's size is smaller than its disk", "Raise `size`, or leave it out")]
    public const string ClaimTooSmall = nameof(ClaimTooSmall);

    [Reason(ReasonFamily.Restore, Seen.Waiting, "The operator removes what it made for the restore", "Wait")]
    public const string Deleting = nameof(Deleting);

    [Reason(
        ReasonFamily.Restore,
        Seen.Failed,
        "A disk of the snapshot has no claim in the template",
        "Add one to `spec.target.template.claims`"
    )]
    public const string DiskWithoutClaim = nameof(DiskWithoutClaim);

    [Reason(ReasonFamily.Restore, Seen.Waiting, "The operator has created the task that writes the disks", "Wait")]
    public const string DisksOrdered = nameof(DisksOrdered);

    [Reason(
        ReasonFamily.Restore,
        Seen.Failed,
        "The disk's format is neither raw nor qcow2",
        "Restore into a pod of your own: `spec.target.pod`"
    )]
    public const string DriverUnknown = nameof(DriverUnknown);

    [Reason(ReasonFamily.Restore, Seen.Waiting, "The deadline has passed, and the agent has been asked to give up", "Wait for the result")]
    public const string GivingUp = nameof(GivingUp);

    [Reason(
        ReasonFamily.Restore,
        Seen.Failed,
        "The restored pod ended before all of the guest's RAM had arrived",
        "Create another restore"
    )]
    public const string GuestEnded = nameof(GuestEnded);

    [Reason(
        ReasonFamily.Restore,
        Seen.Ready,
        "The guest is paused, as it was captured",
        "Resume it when you want it to run: QMP `cont`, `virsh resume`, `virtctl unpause`"
    )]
    public const string GuestPaused = nameof(GuestPaused);

    [Reason(ReasonFamily.Restore, Seen.Ready, "The guest runs", "Nothing")]
    public const string GuestRuns = nameof(GuestRuns);

    [Reason(ReasonFamily.Restore, Seen.Waiting, "The agent reads the captured machine from the snapshot", "Wait")]
    public const string MachineAsked = nameof(MachineAsked);

    [Reason(
        ReasonFamily.Restore,
        Seen.Failed,
        "The template has a claim for a disk that the snapshot does not hold",
        "Correct `spec.target.template.claims`"
    )]
    public const string NoSuchDisk = nameof(NoSuchDisk);

    [Reason(
        ReasonFamily.Restore,
        Seen.Failed,
        "The template's container does not have the claim at the disk's path",
        "Mount it there, or set `path` of the claim"
    )]
    public const string PathNotOnClaim = nameof(PathNotOnClaim);

    [Reason(
        ReasonFamily.Restore,
        Seen.Failed,
        "The claim is mounted where the pod that writes the disks needs its own files",
        "Mount it elsewhere, such as at `/disks/NAME`"
    )]
    public const string PathTaken = nameof(PathTaken);

    [Reason(
        ReasonFamily.Restore,
        Seen.Failed,
        "The snapshot does not say which file the disk was, or the path is not absolute",
        "Set `path` of the claim in `spec.target.template.claims`"
    )]
    public const string PathUnknown = nameof(PathUnknown);

    [Reason(
        ReasonFamily.Restore,
        Seen.Failed,
        "A pod of that name exists and was not made for this restore",
        "Delete it, or give the template's pod another name"
    )]
    public const string PodExists = nameof(PodExists);

    [Reason(
        ReasonFamily.Restore,
        Seen.Failed,
        "The pod that is being restored is gone, or was replaced",
        "Create another restore; start a pod of your own with `-incoming defer` first"
    )]
    public const string PodGone = nameof(PodGone);

    [Reason(ReasonFamily.Restore, Seen.Waiting, "An older restore uses the same pod", "Wait until it has ended, or delete it")]
    public const string PodInUse = nameof(PodInUse);

    [Reason(
        ReasonFamily.Restore,
        Seen.Waiting,
        "The pod that the restore names does not exist",
        "Start it with `-incoming defer`, or delete the restore"
    )]
    public const string PodNotFound = nameof(PodNotFound);

    [Reason(
        ReasonFamily.Restore,
        Seen.Waiting,
        "The VM's pod does not start; Kubernetes' words follow",
        "Check what you check for any pod: image, volumes"
    )]
    public const string PodNotStarting = nameof(PodNotStarting);

    [Reason(ReasonFamily.Restore, Seen.Waiting, "The VM's pod starts", "Wait")]
    public const string PodStarting = nameof(PodStarting);

    [Reason(
        ReasonFamily.Restore,
        Seen.Waiting,
        "Kubernetes cannot schedule the VM's pod; its words follow",
        "Check what you check for any pod: resources, node selector"
    )]
    public const string PodUnschedulable = nameof(PodUnschedulable);

    [Reason(ReasonFamily.Restore, Seen.Ready, "The guest runs, and the rest of its RAM arrives", "Keep the snapshot's volume until then")]
    public const string RamArrives = nameof(RamArrives);

    [Reason(ReasonFamily.Restore, Seen.Event, "All of the guest's RAM has arrived", "Nothing")]
    public const string Resident = nameof(Resident);

    [Reason(ReasonFamily.Restore, Seen.Event, "The restore was deleted before the guest ran", "Nothing: the operator removes what it made")]
    public const string RestoreCancelled = nameof(RestoreCancelled);

    [Reason(ReasonFamily.Restore, Seen.Event, "The restore failed; the message has the reason", "Look the reason up here")]
    public const string RestoreFailed = nameof(RestoreFailed);

    [Reason(ReasonFamily.Restore, Seen.Waiting, "The operator has created the task for the agent, which has not started it yet", "Wait")]
    public const string RestoreOrdered = nameof(RestoreOrdered);

    [Reason(ReasonFamily.Restore, Seen.Event, "The guest runs", "Nothing")]
    public const string RestoreReady = nameof(RestoreReady);

    [Reason(ReasonFamily.Restore, Seen.Waiting, "The agent is restoring", "Wait")]
    public const string Restoring = nameof(Restoring);

    [Reason(
        ReasonFamily.Restore,
        Seen.Failed + Seen.And + Seen.Event,
        "The snapshot that the restore names is being deleted. As an event of a schedule: it deleted a snapshot that its "
            + "retention does not keep",
        "Name another snapshot"
    )]
    public const string SnapshotDeleted = nameof(SnapshotDeleted);

    [Reason(ReasonFamily.Restore, Seen.Waiting, "The snapshot is Ready, and is kept until the restore has ended", "Wait")]
    public const string SnapshotFound = nameof(SnapshotFound);

    [Reason(ReasonFamily.Restore, Seen.Failed, "The snapshot is gone, or was replaced by another of its name", "Create another restore")]
    public const string SnapshotGone = nameof(SnapshotGone);

    [Reason(ReasonFamily.Restore, Seen.Waiting, "The snapshot is not Ready yet", "Wait, or see what the snapshot waits for")]
    public const string SnapshotNotReady = nameof(SnapshotNotReady);

    [Reason(ReasonFamily.Restore, Seen.Failed, "The template is not a valid pod spec; the message names the field", "Correct it")]
    public const string TemplateInvalid = nameof(TemplateInvalid);

    [Reason(
        ReasonFamily.Restore,
        Seen.Failed,
        "The template asks for more than a restore may grant, such as a privileged container",
        "Do what the message says"
    )]
    public const string TemplateRefused = nameof(TemplateRefused);

    [Reason(ReasonFamily.Restore, Seen.Condition, "The disks are on their claims, and are never written again", "Nothing")]
    public const string Written = nameof(Written);
}
