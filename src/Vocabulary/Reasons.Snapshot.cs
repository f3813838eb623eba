namespace Bgsnap.Vocabulary;

// Reasons of snapshots, from the operator.
public static partial class Reasons
{
    [Reason(
        ReasonFamily.Snapshot,
        Seen.Waiting + Seen.And + Seen.Failed + Seen.And + Seen.Event,
        "No agent on the node has taken the task, or the agent does not answer",
        "See whether the agent's pod runs on that node: `kubectl get pods -A -l app.kubernetes.io/component=agent -o wide`"
    )]
    public const string AgentSilent = nameof(AgentSilent);

    [Reason(
        ReasonFamily.Snapshot,
        Seen.Event,
        "The snapshot was deleted while it was being captured",
        "Nothing: the agent frees the guest and removes the files"
    )]
    public const string CaptureCancelled = nameof(CaptureCancelled);

    [Reason(ReasonFamily.Snapshot, Seen.Waiting, "The operator has created the task for the agent, which has not started it yet", "Wait")]
    public const string CaptureOrdered = nameof(CaptureOrdered);

    [Reason(ReasonFamily.Snapshot, Seen.Waiting, "The agent is capturing", "Wait")]
    public const string Capturing = nameof(Capturing);

    [Reason(
        ReasonFamily.Snapshot,
        Seen.Waiting,
        "The carrier pod, which mounts the claim, has ended (evicted, or rejected by the kubelet); the operator replaces it",
        "See the message; repeatedly: `kubectl describe pod`"
    )]
    public const string CarrierEnded = nameof(CarrierEnded);

    [Reason(
        ReasonFamily.Snapshot,
        Seen.Waiting,
        "The carrier pod does not start: its image or its volume is missing",
        "`kubectl describe pod`: the claim may be mounted on another node"
    )]
    public const string CarrierNotStarting = nameof(CarrierNotStarting);

    [Reason(ReasonFamily.Snapshot, Seen.Waiting, "The carrier pod starts and mounts the claim", "Wait")]
    public const string CarrierStarting = nameof(CarrierStarting);

    [Reason(
        ReasonFamily.Snapshot,
        Seen.Waiting,
        "Kubernetes cannot schedule the carrier pod",
        "See the message: resources, node selector, or a claim that is not bound"
    )]
    public const string CarrierUnschedulable = nameof(CarrierUnschedulable);

    [Reason(ReasonFamily.Snapshot, Seen.Failed, "The claim is being deleted", "Name another claim")]
    public const string ClaimEnded = nameof(ClaimEnded);

    [Reason(
        ReasonFamily.Snapshot,
        Seen.Failed,
        "A claim of that name exists and was not made for this snapshot or restore",
        "Choose another name; to store snapshots on an existing claim, use `spec.target.persistentVolumeClaim`"
    )]
    public const string ClaimExists = nameof(ClaimExists);

    [Reason(ReasonFamily.Snapshot, Seen.Failed, "The claim has lost its volume", "Name another claim")]
    public const string ClaimLost = nameof(ClaimLost);

    [Reason(ReasonFamily.Snapshot, Seen.Waiting, "The claim does not exist", "Create it, or delete the snapshot")]
    public const string ClaimNotFound = nameof(ClaimNotFound);

    [Reason(
        ReasonFamily.Snapshot,
        Seen.Failed,
        "The snapshot was not Ready, or the restored guest did not run, within `deadline`; the message says what it waited for",
        "Correct what the message names; allow a longer `deadline`"
    )]
    public const string DeadlineExceeded = nameof(DeadlineExceeded);

    [Reason(ReasonFamily.Snapshot, Seen.Failed, "The agent reported a failure without a reason", "See the agent's log")]
    public const string Failed = nameof(Failed);

    [Reason(
        ReasonFamily.Snapshot,
        Seen.Event,
        "The snapshot was deleted with the annotation `bgsnap.io/abandon-files`; the event names the files that may be left",
        "Remove the files: they hold the guest's memory"
    )]
    public const string FilesAbandoned = nameof(FilesAbandoned);

    [Reason(
        ReasonFamily.Snapshot,
        Seen.Event,
        "The claim was gone or being deleted before the snapshot's files could be removed; the event is on the snapshot and on the volume",
        "If the volume still exists (reclaim policy `Retain`): the guest's memory is on it; remove the directory or erase the volume"
    )]
    public const string FilesLeftBehind = nameof(FilesLeftBehind);

    [Reason(ReasonFamily.Snapshot, Seen.Condition, "The instant that the snapshot shows is known", "Nothing")]
    public const string Fixed = nameof(Fixed);

    [Reason(
        ReasonFamily.Snapshot,
        Seen.Waiting,
        "A restore reads the snapshot, whose deletion waits",
        "Wait until the restore has ended, or delete it"
    )]
    public const string InUseByRestore = nameof(InUseByRestore);

    [Reason(
        ReasonFamily.Snapshot,
        Seen.Failed,
        "The pod lacks the annotation that names its QMP socket, or an annotation is invalid; the message says which",
        "Correct the annotation, then create another snapshot or restore"
    )]
    public const string NotAVirtualMachine = nameof(NotAVirtualMachine);

    [Reason(ReasonFamily.Snapshot, Seen.Event, "The snapshot's instant is fixed; the guest runs on", "Nothing")]
    public const string PointInTime = nameof(PointInTime);

    [Reason(
        ReasonFamily.Snapshot,
        Seen.Waiting,
        "The node works on as many captures or restores as it may",
        "Wait; `operator.maxConcurrentCaptures` in the chart allows more"
    )]
    public const string Queued = nameof(Queued);

    [Reason(
        ReasonFamily.Snapshot,
        Seen.Waiting + Seen.And + Seen.Failed,
        "The API server rejected an object that the operator creates: a quota, an admission policy, Pod Security, or missing " + "rights",
        "Do what the message says; the operator tries again"
    )]
    public const string RefusedByApiServer = nameof(RefusedByApiServer);

    [Reason(
        ReasonFamily.Snapshot,
        Seen.Failed,
        "The VM's container has no memory limit, so that the operator cannot choose the claim's size",
        "Set `spec.target.claimTemplate.size`"
    )]
    public const string SizeUnknown = nameof(SizeUnknown);

    [Reason(
        ReasonFamily.Snapshot,
        Seen.Failed + Seen.And + Seen.Event,
        "The snapshot failed; the message has the reason. On a restore: it names a snapshot that has failed",
        "Look the reason up here; name another snapshot"
    )]
    public const string SnapshotFailed = nameof(SnapshotFailed);

    [Reason(ReasonFamily.Snapshot, Seen.Ready + Seen.And + Seen.Event, "The snapshot is complete on its claim", "Nothing")]
    public const string SnapshotReady = nameof(SnapshotReady);

    [Reason(
        ReasonFamily.Snapshot,
        Seen.Failed,
        "The VM has ended, is being deleted, or was replaced",
        "Start it, then create another snapshot"
    )]
    public const string SourceEnded = nameof(SourceEnded);

    [Reason(
        ReasonFamily.Snapshot,
        Seen.Waiting,
        "The pod or virtual machine that the snapshot names does not exist",
        "Create it, or delete the snapshot"
    )]
    public const string SourceNotFound = nameof(SourceNotFound);

    [Reason(ReasonFamily.Snapshot, Seen.Waiting, "The VM does not run yet; the message says why", "Start it, or delete the snapshot")]
    public const string SourceNotRunning = nameof(SourceNotRunning);
}
