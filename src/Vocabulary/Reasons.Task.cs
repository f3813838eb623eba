namespace Bgsnap.Vocabulary;

// Reasons of tasks of the node agent.
public static partial class Reasons
{
    [Reason(
        ReasonFamily.Task,
        Seen.Task,
        "The agent of the node was restarted in the middle of the work",
        "Create another snapshot or restore; an instant restore whose guest runs continues by itself. Repeatedly: see why the "
            + "agent's pod restarts"
    )]
    public const string AgentRestarted = nameof(AgentRestarted);

    [Reason(
        ReasonFamily.Task,
        Seen.Task,
        "The agent of the node was stopped in the middle of the work, by an upgrade for example",
        "Create another snapshot or restore"
    )]
    public const string AgentStopped = nameof(AgentStopped);

    [Reason(ReasonFamily.Task, Seen.Task, "The spec has a quantity that the agent cannot read", "Correct it, for example `200Mi`")]
    public const string BadQuantity = nameof(BadQuantity);

    [Reason(
        ReasonFamily.Task,
        Seen.Task,
        "A restored disk would be written to something that is neither a file nor a device of its claim",
        "Remove what the message names from the claim"
    )]
    public const string BadTarget = nameof(BadTarget);

    [Reason(
        ReasonFamily.Task,
        Seen.Task,
        "The task lacks something, or asks for something that this agent does not know",
        "Upgrade the agent to the operator's version"
    )]
    public const string BadTask = nameof(BadTask);

    [Reason(
        ReasonFamily.Task,
        Seen.Task,
        "The carrier pod, through which the agent opens the claim, is gone",
        "Create another snapshot or restore; see why the pod ended"
    )]
    public const string CarrierLost = nameof(CarrierLost);

    [Reason(
        ReasonFamily.Task,
        Seen.Task,
        "The files of a snapshot could not be removed",
        "Do what the message says; the operator tries again"
    )]
    public const string DeleteFailed = nameof(DeleteFailed);

    [Reason(ReasonFamily.Task, Seen.Task, "The libvirt domain in the snapshot is larger than a task can carry", "Report it")]
    public const string DomainTooLarge = nameof(DomainTooLarge);

    [Reason(
        ReasonFamily.Task,
        Seen.Task,
        "`spec.capture.quiesce` is `Required`, and the VM's pod names no guest agent's socket, or has no such socket",
        "Correct the annotation `bgsnap.io/guest-agent-socket`, or use `quiesce: IfAvailable`"
    )]
    public const string NoGuestAgent = nameof(NoGuestAgent);

    [Reason(
        ReasonFamily.Task,
        Seen.Task,
        "The snapshot was taken of a pod's QEMU, not of a KubeVirt VM",
        "Restore it into a pod: `spec.target.pod` or `template`"
    )]
    public const string NotOfKubeVirt = nameof(NotOfKubeVirt);

    [Reason(
        ReasonFamily.Task,
        Seen.Task,
        "The launcher pod runs, and libvirt started no QEMU of that domain within two minutes",
        "`kubectl logs <launcher> -c compute`"
    )]
    public const string QemuNotFound = nameof(QemuNotFound);

    [Reason(
        ReasonFamily.Task,
        Seen.Task,
        "The capture succeeded, but its directory is not on the claim",
        "Find out who else writes to the claim"
    )]
    public const string SnapshotLost = nameof(SnapshotLost);

    [Reason(
        ReasonFamily.Task,
        Seen.Task,
        "The pod has no QMP socket at the path that its annotation names",
        "Correct the annotation `bgsnap.io/qmp-socket`, or start QEMU with `-qmp unix:PATH,server=on,wait=off`"
    )]
    public const string SocketNotFound = nameof(SocketNotFound);

    [Reason(
        ReasonFamily.Task,
        Seen.Task,
        "More than one process of the launcher pod says that it is the domain",
        "End the superfluous one; the message lists them"
    )]
    public const string SourceAmbiguous = nameof(SourceAmbiguous);

    [Reason(ReasonFamily.Task, Seen.Task, "The pod that is being restored has ended, is gone, or was replaced", "Create another restore")]
    public const string TargetEnded = nameof(TargetEnded);
}
