namespace Bgsnap.Vocabulary;

// Reasons of other exit codes of the command line.
public static partial class Reasons
{
    [Reason(ReasonFamily.CommandLine, "exit code 2", "The command line is wrong", "See the message and `--help`")]
    public const string BadArgument = nameof(BadArgument);

    [Reason(
        ReasonFamily.CommandLine,
        "exit code 130",
        "You ended the command, or the operator cancelled the task; nothing was kept",
        "Run it again"
    )]
    public const string Cancelled = nameof(Cancelled);

    [Reason(
        ReasonFamily.CommandLine,
        "exit code 4",
        "The engine does not work on this machine; with `--engine auto`, neither works",
        "[What the message speaks of](troubleshooting.md#the-engine-does-not-work-here-code-4)"
    )]
    public const string EngineUnavailable = nameof(EngineUnavailable);

    [Reason(
        ReasonFamily.CommandLine,
        "exit code 6",
        "QEMU, or libvirt on the way to it, does not answer",
        "Make sure that it is a QMP socket of a running QEMU, and that no other client holds it"
    )]
    public const string QemuUnreachable = nameof(QemuUnreachable);

    [Reason(
        ReasonFamily.CommandLine,
        "exit code 5",
        "The files of the snapshot were changed or are damaged",
        "`bgsnap-agent verify` lists what. Take another snapshot"
    )]
    public const string SnapshotCorrupt = nameof(SnapshotCorrupt);
}
