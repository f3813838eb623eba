namespace Bgsnap.Vocabulary;

// Reasons of what the node agent refuses before it begins.
public static partial class Reasons
{
    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "Another `bgsnap-agent restore` works on this QEMU",
        "Wait until it ends; its own command shows its progress"
    )]
    public const string AlreadyRestoring = nameof(AlreadyRestoring);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "Another userfaultfd owns a RAM block: another capture, a restore that has not finished, or a postcopy migration",
        "Wait for it to end"
    )]
    public const string AlreadyTracked = nameof(AlreadyTracked);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit1 + Seen.And + Seen.Exit3,
        "A block job that bgsnap did not start (backup, mirror, commit, stream) works on a disk; the message names it. With "
            + "exit code 1 it began during the capture, which gave way; the job continues",
        "Try again when the job has ended, or use `--disks none`"
    )]
    public const string BlockJobActive = nameof(BlockJobActive);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3 + Seen.And + Seen.Failed,
        "A VFIO, vhost-user, vhost-vdpa or virtio-mem device: it writes or removes memory and bypasses the protection. Also if "
            + "QEMU only holds such hardware open, for a disk (`nvme://`, libblkio) or a network card (`-netdev vhost-vdpa`): the "
            + "message names the descriptor, or how much memory is pinned. For a KubeVirt VM the operator reads this from the "
            + "VirtualMachineInstance",
        "Remove the device, or its back end, from the VM"
    )]
    public const string DeviceUnsupported = nameof(DeviceUnsupported);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "A disk is encrypted (LUKS), and the snapshot would store it decrypted",
        "Exclude the disk, or allow that: `--decrypt-disks`, `spec.capture.encryptedDisks: StoreDecrypted`"
    )]
    public const string DiskEncrypted = nameof(DiskEncrypted);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "The machine, or the snapshot, has no disk of that name, or cannot give its content; the message lists the disks",
        "Correct the name"
    )]
    public const string DiskNotFound = nameof(DiskNotFound);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3 + Seen.And + Seen.Failed,
        "Two disks are one image, by one node or by two; or a disk of a KubeVirt VM is `shareable`, so that other VMs write to " + "it",
        "Exclude one of them (`--disks`, `spec.capture.disks`), or use `--disks none`"
    )]
    public const string DiskShared = nameof(DiskShared);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "The process behind the QMP socket does not run in the named container, or the process of `--pid` does not belong to "
            + "the domain",
        "Check socket, domain and container"
    )]
    public const string ForeignProcess = nameof(ForeignProcess);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3 + Seen.And + Seen.Ready,
        "A capture that died had frozen the guest's file systems, and the guest agent does not thaw them. On a Ready restore: "
            + "the guest was captured frozen and no guest agent thawed it",
        "Check the guest agent; run `fsfreeze -u` in the guest"
    )]
    public const string GuestFrozen = nameof(GuestFrozen);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "The guest is neither running nor paused",
        "Bring it into one of these states. `io-error`: a disk failed or is full (`query-block`, `io-status`); repair that, "
            + "then `cont`"
    )]
    public const string GuestNotRunning = nameof(GuestNotRunning);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit1 + Seen.And + Seen.Exit3,
        "The guest has suspended itself (ACPI S3). With exit code 1 it did so before the point in time, and is still suspended",
        "Wake it up (`system_wakeup`, `virsh dompmwakeup`), and try again"
    )]
    public const string GuestSuspended = nameof(GuestSuspended);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "A device with an iothread, without KVM, in QEMU 9.0 or later: stopping such a machine can make its disk hang "
            + "permanently ([0010](design/0010-iothreads.md))",
        "Remove the iothread, or use KVM"
    )]
    public const string IoThreadUnsafe = nameof(IoThreadUnsafe);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "The kernel cannot write-protect this kind of memory",
        "Linux 5.19 or later, or `--engine qemu`"
    )]
    public const string KernelTooOld = nameof(KernelTooOld);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "A file that describes the machine (`domain.xml`, `kubernetes.json`) has more than 4 MiB; the message names it",
        "Report it"
    )]
    public const string MachineFileTooLong = nameof(MachineFileTooLong);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit1 + Seen.And + Seen.Exit3,
        "The guest is being migrated, or a migration began during the capture, which gave way",
        "Try again when the migration has ended"
    )]
    public const string MigrationActive = nameof(MigrationActive);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "Another backup or migration of this VM uses QEMU's NBD server, which the agent needs to read the disks",
        "Try again when that has ended, or use `--disks none`"
    )]
    public const string NbdServerBusy = nameof(NbdServerBusy);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "The process of `--pid` has neither its own QMP socket nor a monitor of libvirt",
        "Check that it is a QEMU; start it with `-qmp unix:PATH,server=on,wait=off`"
    )]
    public const string NoMonitor = nameof(NoMonitor);

    [Reason(ReasonFamily.Refused, Seen.Exit3, "QEMU itself says that it cannot save this machine, and why", "Remove what it names")]
    public const string NotMigratable = nameof(NotMigratable);

    [Reason(ReasonFamily.Refused, Seen.Exit3, "The file of `--objects` is not valid JSON", "Give it the JSON of a `v1` List")]
    public const string ObjectsInvalid = nameof(ObjectsInvalid);

    [Reason(ReasonFamily.Refused, Seen.Exit3, "Something with the output's name already exists", "Choose another name")]
    public const string OutputExists = nameof(OutputExists);

    [Reason(ReasonFamily.Refused, Seen.Exit3, "Guest memory in pages above 2 MiB", "Give the VM 2 MiB huge pages")]
    public const string PageSizeUnsupported = nameof(PageSizeUnsupported);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "QEMU's process is not visible here, or no process has the id of `--pid`",
        "Run in the host's pid namespace; check `--pid`"
    )]
    public const string ProcessNotFound = nameof(ProcessNotFound);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "Another bgsnap process captures, restores or frees this VM; a capture has waited 30 s for it",
        "Wait until it ends, and try again"
    )]
    public const string QemuBusy = nameof(QemuBusy);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "QEMU lacks a necessary command, or cannot insert a filter above a disk of a device with an iothread; the message says " + "which",
        "Use a newer QEMU; for disks, one of the ways that the message lists ([disks](disks.md#methods))"
    )]
    public const string QemuTooOld = nameof(QemuTooOld);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit1 + Seen.And + Seen.Exit3,
        "`--quiesce required` (`quiesce: Required`). Exit code 3: no guest agent answers, or somebody else has frozen the file "
            + "systems. Exit code 1: the guest agent refused to freeze, took too long, or the freeze ended too early. The message "
            + "says which",
        "Make sure that `qemu-ga` runs in the guest and that no other client holds its socket; allow a longer "
            + "`--quiesce-timeout`; or use `--quiesce if-available`"
    )]
    public const string QuiesceFailed = nameof(QuiesceFailed);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "The agent could not determine a RAM block's address with certainty ([0005](design/0005-ram-blocks.md))",
        "QEMU 8.0 or later prints the addresses; or use `--engine qemu`; report the message"
    )]
    public const string RamBlocksUnknown = nameof(RamBlocksUnknown);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "The guest's RAM is a file on a disk (`memory-backend-file` on ext4 or xfs), which the kernel cannot write-protect, so "
            + "neither engine works",
        "Use `memory-backend-memfd`, or a file on tmpfs or hugetlbfs"
    )]
    public const string RamOnDisk = nameof(RamOnDisk);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "The machine has memory that is mapped read-only, such as a read-only NVDIMM: QEMU crashes when it loads a snapshot of " + "it",
        "Remove the device; or use a private copy: `share=off`, and `rom=off` from QEMU 8.2 on"
    )]
    public const string ReadOnlyMemory = nameof(ReadOnlyMemory);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "The kernel is merging equal pages of this guest now (KSM is on, and QEMU's memory takes part): it drops write "
            + "protection silently",
        "Start the VM with `-machine mem-merge=off` (libvirt: `<memoryBacking><nosharepages/>`), or stop ksmd on the node: "
            + "`echo 0 > /sys/kernel/mm/ksm/run`, which keeps merged pages merged"
    )]
    public const string SamepageMerging = nameof(SamepageMerging);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "The scratch directory does not have the space that the disks need at least",
        "Free space there, raise `--scratch-limit` (`agent.scratch` in the chart), or name another directory with `--scratch`"
    )]
    public const string ScratchTooSmall = nameof(ScratchTooSmall);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "The scratch directory does not exist, or its file system cannot hold the scratch files",
        "Name another with `--scratch`: ext4, xfs, btrfs and tmpfs work"
    )]
    public const string ScratchUnusable = nameof(ScratchUnusable);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3,
        "Another process maps the guest's memory for writing",
        "Remove the device that this process serves (virtiofsd, vhost-user)"
    )]
    public const string SharedMemory = nameof(SharedMemory);

    [Reason(
        ReasonFamily.Refused,
        Seen.Exit3 + Seen.And + Seen.Waiting,
        "The directory does not exist; or a restore names a VMBackgroundSnapshot that does not exist, and waits for it",
        "Check the path or the name"
    )]
    public const string SnapshotNotFound = nameof(SnapshotNotFound);
}
