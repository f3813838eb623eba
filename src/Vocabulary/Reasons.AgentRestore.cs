namespace Bgsnap.Vocabulary;

// Reasons of the node agent's restores.
public static partial class Reasons
{
    [Reason(ReasonFamily.AgentRestore, Seen.Exit1, "An image could not be written; the message names the disk", "Do what the message says")]
    public const string DiskNotWritten = nameof(DiskNotWritten);

    [Reason(
        ReasonFamily.AgentRestore,
        Seen.Exit1,
        "QEMU rejected the snapshot, or ended; the message or QEMU's standard error says why",
        "Usually the devices differ from the captured machine: correct them"
    )]
    public const string QemuRefusedSnapshot = nameof(QemuRefusedSnapshot);

    [Reason(
        ReasonFamily.AgentRestore,
        Seen.Exit1,
        "QEMU had everything and did not run the guest within 60 s",
        "Check its standard error and its storage"
    )]
    public const string QemuStuck = nameof(QemuStuck);

    [Reason(
        ReasonFamily.AgentRestore,
        Seen.Exit1,
        "A system call failed while the agent loaded memory for the guest",
        "Run the same command again"
    )]
    public const string RestoreServerFailed = nameof(RestoreServerFailed);

    [Reason(
        ReasonFamily.AgentRestore,
        Seen.Exit1 + Seen.And + Seen.Condition,
        "The agent cannot read the snapshot: its storage is away, the node is cut off, or a file is damaged. QEMU, or the "
            + "guest, waits for that memory",
        "Bring the volume back: the agent tries again by itself. If `bgsnap-agent restore` ended, kill that QEMU"
    )]
    public const string SnapshotUnreadable = nameof(SnapshotUnreadable);

    [Reason(
        ReasonFamily.AgentRestore,
        Seen.Exit3,
        "The target has a migration capability on with which QEMU expects another kind of stream (`multifd`, `mapped-ram`, "
            + "`x-ignore-shared`, …)",
        "Switch it off with `migrate-set-capabilities`"
    )]
    public const string TargetCapability = nameof(TargetCapability);

    [Reason(
        ReasonFamily.AgentRestore,
        Seen.Exit3,
        "The target differs from the captured machine; the message lists every difference ([what each "
            + "means](troubleshooting.md#the-target-differs))",
        "Start QEMU with the captured command line and `-incoming defer`; `inspect --json` shows it"
    )]
    public const string TargetDiffers = nameof(TargetDiffers);

    [Reason(
        ReasonFamily.AgentRestore,
        Seen.Exit3,
        "The QEMU is running, expects a migration from elsewhere, or has already failed to load something",
        "Restart QEMU with `-incoming defer`"
    )]
    public const string TargetNotWaiting = nameof(TargetNotWaiting);
}
