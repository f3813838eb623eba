namespace Bgsnap.Vocabulary;

// Reasons of what the node agent begins and abandons.
public static partial class Reasons
{
    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "The capturing process died, was killed by its own watchdog because a thread that the guest waited for made no "
            + "progress (`--max-downtime` and a second, 2 s at most), or was silent (for 1.2 s while the guest depended on it, else "
            + "5 s: stopped, frozen, starved) and was killed",
        "Give the agent CPU and memory, do not freeze its cgroup; try again"
    )]
    public const string AgentDied = nameof(AgentDied);

    [Reason(ReasonFamily.Abandoned, Seen.Exit1, "QEMU's own engine failed; the message has its reason", "Do what the message says")]
    public const string BackgroundSnapshotFailed = nameof(BackgroundSnapshotFailed);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "QEMU's block graph could not be put back as it was; the message names what is left",
        "The next capture of this VM, or `bgsnap-agent free`, tries again"
    )]
    public const string BlockGraphNotRestored = nameof(BlockGraphNotRestored);

    [Reason(ReasonFamily.Abandoned, Seen.Exit1, "QEMU wrote no device state", "Report it, with the command line of QEMU")]
    public const string DeviceStateMissing = nameof(DeviceStateMissing);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "QEMU saved a device state of less than a page and resumed the guest before the agent had protected its memory, "
            + "although QEMU should have held the guest",
        "Report it"
    )]
    public const string DeviceStateSmall = nameof(DeviceStateSmall);

    [Reason(ReasonFamily.Abandoned, Seen.Exit1, "QEMU wrote more than 1 GiB of device state", "Report it, with the command line of QEMU")]
    public const string DeviceStateTooLarge = nameof(DeviceStateTooLarge);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "QEMU's device state does not have the form that a restore reads: a machine type before 2.4",
        "Use a newer machine type"
    )]
    public const string DeviceStateUnknown = nameof(DeviceStateUnknown);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "A disk could not be read as it was at the point in time; the message names it",
        "Check the disk's storage, then try again"
    )]
    public const string DiskReadFailed = nameof(DiskReadFailed);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "The stop window would have been (with QEMU's engine: was) longer than `--max-downtime`. With VolumeSnapshots: the "
            + "storage had not cut them by then, and the message names which",
        "Try again; allow a longer downtime"
    )]
    public const string DowntimeExceeded = nameof(DowntimeExceeded);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "The kernel reported a fault outside the guest's memory. This is a defect of the agent",
        "Report it"
    )]
    public const string ForeignFault = nameof(ForeignFault);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "Not everything that the agent copied arrived in the file. This is a defect of the agent",
        "Report it"
    )]
    public const string GranulesLost = nameof(GranulesLost);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "Someone else paused, resumed or reset the guest in the stop window; through libvirt, in each of four tries",
        "Try again; find out who does that"
    )]
    public const string GuestStateChanged = nameof(GuestStateChanged);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "The system refused to read or write something; the message says what",
        "Do what the message says"
    )]
    public const string InputOutput = nameof(InputOutput);

    [Reason(ReasonFamily.Abandoned, Seen.Exit1, "This is a defect of the agent", "Report it")]
    public const string InternalError = nameof(InternalError);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "The agent could not remove what an earlier agent left in QEMU; the message says what and why",
        "Do what the message says; `bgsnap-agent free` tries again"
    )]
    public const string LeftoversRemain = nameof(LeftoversRemain);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "A device, disk, RAM block or migration blocker was added, removed or changed between the capture's first look at the "
            + "machine and its point in time, or a disk was changed before its copy ended (unplugged, another image, an external "
            + "snapshot); the message names it",
        "Try again"
    )]
    public const string MachineChanged = nameof(MachineChanged);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "A balloon or free page reporting took memory that the agent may not have copied yet; or QEMU was stuck in that for 5 " + "s",
        "Try again while the balloon does not change, or without free-page-reporting"
    )]
    public const string MemoryDiscarded = nameof(MemoryDiscarded);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "QEMU, or libvirt for it, sent more events or longer messages than a working QEMU does",
        "Check that QEMU: it is broken or hostile"
    )]
    public const string PeerFloods = nameof(PeerFloods);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "A page was no longer write-protected when the agent copied it: something in the kernel (its samepage merging, KSM, if "
            + "the message says so) removed the protection",
        "Stop what the message names; otherwise report it, with the kernel's version"
    )]
    public const string ProtectionLost = nameof(ProtectionLost);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "QEMU answered a command with something that is not a valid answer to it; the message names both",
        "Check that QEMU: it is broken, hostile, or newer than what bgsnap knows"
    )]
    public const string QemuAnswersOddly = nameof(QemuAnswersOddly);

    [Reason(ReasonFamily.Abandoned, Seen.Exit1, "The guest was shut down, or QEMU ended", "Start it again")]
    public const string QemuGone = nameof(QemuGone);

    [Reason(ReasonFamily.Abandoned, Seen.Exit1, "QEMU refused a command; the message has its reason", "Do what the message says")]
    public const string QemuRefused = nameof(QemuRefused);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "QEMU unmapped guest RAM (memory hot-unplug, or the ROM of a device that was unplugged) while a capture prepared or "
            + "copied it, or while a restore loaded it",
        "Try again; run an instant restore again with the same command"
    )]
    public const string RamUnmapped = nameof(RamUnmapped);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "The guest overwrote more of a disk than the scratch holds before the agent had copied it; the guest was not slowed "
            + "down. Or the scratch directory of the node agent is full",
        "Raise `--scratch-limit` (`agent.scratch` in the chart), or capture when the guest writes less"
    )]
    public const string ScratchFull = nameof(ScratchFull);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "QEMU, or libvirt on the way to QEMU, did not stop the guest or did not finish its device state within 60 s, or kept "
            + "it stopped for 10 s; the message says which. A disk that does not answer causes this, since QEMU drains requests "
            + "first",
        "Check the guest's storage, and libvirt"
    )]
    public const string StopTimedOut = nameof(StopTimedOut);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "QEMU could not fix the point in time; the message has its words",
        "Do what the message says, then try again"
    )]
    public const string StopWindowFailed = nameof(StopWindowFailed);

    [Reason(ReasonFamily.Abandoned, Seen.Exit1, "The stream is not a QEMU stream, or could not be written", "See the message")]
    public const string StreamBroken = nameof(StreamBroken);

    [Reason(ReasonFamily.Abandoned, Seen.Exit1, "The kernel refused a system call; the message says which", "Do what the message says")]
    public const string SystemCallFailed = nameof(SystemCallFailed);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "No space on the volume; in a restore, on the volume of a disk",
        "Free some space, or use a larger claim"
    )]
    public const string TargetFull = nameof(TargetFull);

    [Reason(
        ReasonFamily.Abandoned,
        Seen.Exit1,
        "The volume took no data for 2 s while the guest waited",
        "Use a faster volume, or more `--stage-memory`"
    )]
    public const string TargetTooSlow = nameof(TargetTooSlow);
}
