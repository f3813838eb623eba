namespace Bgsnap.Vocabulary;

// Reasons of KubeVirt VMs, from the operator.
public static partial class Reasons
{
    [Reason(
        ReasonFamily.KubeVirt,
        Seen.Failed,
        "A disk of the VM is not in the snapshot: memory and disks would not agree",
        "Restore a snapshot with all disks"
    )]
    public const string DiskNotCaptured = nameof(DiskNotCaptured);

    [Reason(
        ReasonFamily.KubeVirt,
        Seen.Failed,
        "A volume of the VM is a file of a node; a restore never grants access to such a file",
        "Restore into a pod of your own: `spec.target.pod`"
    )]
    public const string HostDisk = nameof(HostDisk);

    [Reason(ReasonFamily.KubeVirt, Seen.Failed, "The cluster does not serve `kubevirt.io/v1`", "Install KubeVirt, or name a pod")]
    public const string KubeVirtNotInstalled = nameof(KubeVirtNotInstalled);

    [Reason(
        ReasonFamily.KubeVirt,
        Seen.Waiting,
        "Another instance of the namespace runs with a MAC address of the captured VM",
        "Stop it, or use `macAddresses: Regenerate`"
    )]
    public const string MacInUse = nameof(MacInUse);

    [Reason(ReasonFamily.KubeVirt, Seen.Waiting, "The VM's memory is being dumped", "Wait until that has ended")]
    public const string MemoryDump = nameof(MemoryDump);

    [Reason(ReasonFamily.KubeVirt, Seen.Waiting, "The VM is being migrated", "Wait until that has ended")]
    public const string Migrating = nameof(Migrating);

    [Reason(
        ReasonFamily.KubeVirt,
        Seen.Failed,
        "The operator was started without `--hook-image`",
        "Upgrade the chart, or restore into a pod"
    )]
    public const string NoHookImage = nameof(NoHookImage);

    [Reason(
        ReasonFamily.KubeVirt,
        Seen.Failed,
        "The restore names a volume that the captured VM does not have, or a disk of the snapshot belongs to no volume",
        "Correct `spec.target.virtualMachine.claims`"
    )]
    public const string NoSuchVolume = nameof(NoSuchVolume);

    [Reason(ReasonFamily.KubeVirt, Seen.Waiting, "The VM is paused", "Unpause it, or set `capture.whenPaused: Capture`")]
    public const string Paused = nameof(Paused);

    [Reason(
        ReasonFamily.KubeVirt,
        Seen.Waiting + Seen.And + Seen.Failed,
        "KubeVirt does not accept hook sidecars, by which bgsnap restores a VM",
        "Add the feature gate `Sidecar` to the KubeVirt object"
    )]
    public const string SidecarsNotEnabled = nameof(SidecarsNotEnabled);

    [Reason(
        ReasonFamily.KubeVirt,
        Seen.Failed,
        "The VM's objects are larger than 512 KiB, mostly by `userData` in the spec",
        "Move `userData` to a Secret"
    )]
    public const string SourceTooLarge = nameof(SourceTooLarge);

    [Reason(
        ReasonFamily.KubeVirt,
        Seen.Failed,
        "The instance ended before its guest ran",
        "`kubectl describe vmi`, and `kubectl logs <launcher> -c compute`"
    )]
    public const string VirtualMachineEnded = nameof(VirtualMachineEnded);

    [Reason(ReasonFamily.KubeVirt, Seen.Failed, "A VM of that name exists", "Choose another name, or put that VM back with `whenExists`")]
    public const string VirtualMachineExists = nameof(VirtualMachineExists);

    [Reason(ReasonFamily.KubeVirt, Seen.Failed, "The VM that was made for this restore is gone", "Create another restore")]
    public const string VirtualMachineGone = nameof(VirtualMachineGone);

    [Reason(ReasonFamily.KubeVirt, Seen.Waiting, "Another restore is putting the VM back", "Wait until it has ended")]
    public const string VirtualMachineInUse = nameof(VirtualMachineInUse);

    [Reason(ReasonFamily.KubeVirt, Seen.Waiting, "KubeVirt does not start the VM; its words follow", "Do what the message says")]
    public const string VirtualMachineNotStarting = nameof(VirtualMachineNotStarting);

    [Reason(
        ReasonFamily.KubeVirt,
        Seen.Waiting,
        "The VM runs, and `PutBack` waits until you stop it",
        "`virtctl stop NAME`, or use `StopAndPutBack`"
    )]
    public const string VirtualMachineRunning = nameof(VirtualMachineRunning);

    [Reason(ReasonFamily.KubeVirt, Seen.Waiting, "The VM is created or starts", "Wait")]
    public const string VirtualMachineStarting = nameof(VirtualMachineStarting);

    [Reason(ReasonFamily.KubeVirt, Seen.Waiting, "`StopAndPutBack` waits until the VM's instance is gone", "Wait")]
    public const string VirtualMachineStopping = nameof(VirtualMachineStopping);

    [Reason(
        ReasonFamily.KubeVirt,
        Seen.Failed,
        "The VM's spec has more than 192 KiB, mostly by `userData`, and does not fit into an annotation",
        "Move `userData` to a Secret, or delete the VM"
    )]
    public const string VirtualMachineTooLarge = nameof(VirtualMachineTooLarge);
}
