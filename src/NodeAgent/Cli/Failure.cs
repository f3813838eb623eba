using System.Text.Json;
using Bgsnap.NodeAgent.Capture;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Restore;
using Bgsnap.NodeAgent.Store;
using Bgsnap.NodeAgent.Streams;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>Turns an exception into a reason, a message and an exit code, for people and for scripts.</summary>
internal static class Failure
{
    internal static ErrorLine Describe(Exception e) =>
        e switch
        {
            CaptureRefusedException r => new("error", r.Reason, r.Message, ExitCode.Refused),
            CaptureFailedException f => new("error", f.Reason, f.Message, ExitCode.Failed),
            EngineUnavailableException u => new("error", "EngineUnavailable", u.Message, ExitCode.EngineUnavailable),
            SnapshotCorruptException c => new("error", "SnapshotCorrupt", c.Message, ExitCode.Corrupt),
            RestoreRefusedException r => new("error", r.Reason, r.Message, ExitCode.Refused),
            RestoreFailedException r => new("error", r.Reason, r.Message, r.Reason == "Cancelled" ? ExitCode.Cancelled : ExitCode.Failed),
            MigrationStreamException m => new("error", "StreamBroken", m.Message, ExitCode.Failed),
            QmpException { ErrorClass: "CommandNotFound" } q => new(
                "error",
                "QemuTooOld",
                $"this QEMU does not have a command that is needed: {q.Message}",
                ExitCode.Refused
            ),
            QmpException { ErrorClass: not null } q => new("error", "QemuRefused", $"QEMU refused a command: {q.Message}", ExitCode.Failed),
            QmpException { Floods: true } q => new("error", "PeerFloods", q.Message, ExitCode.Failed),
            QmpException { IsOdd: true } q => new("error", "QemuAnswersOddly", q.Message, ExitCode.Failed),
            QmpException q => new("error", "QemuUnreachable", q.Message, ExitCode.QemuUnreachable),
            OperationCanceledException => new("error", "Cancelled", "cancelled; nothing was kept", ExitCode.Cancelled),
            LinuxException { Errno: Errno.ENOSPC } l => new("error", "TargetFull", l.Message, ExitCode.Failed),
            LinuxException { Errno: Errno.EEXIST } l => new("error", "OutputExists", l.Message, ExitCode.Refused),
            LinuxException l => new("error", "SystemCallFailed", l.Message, ExitCode.Failed),
            ArgumentException { ParamName: { } name } a => new(
                "error",
                "BadArgument",
                a.Message.Replace($" (Parameter '{name}')", "", StringComparison.Ordinal),
                ExitCode.Usage
            ),
            ArgumentException a => new("error", "BadArgument", a.Message, ExitCode.Usage),
            DirectoryNotFoundException d => new("error", "SnapshotNotFound", d.Message, ExitCode.Refused),
            IOException or UnauthorizedAccessException => new("error", "InputOutput", e.Message, ExitCode.Failed),
            _ => new("error", "InternalError", $"{e.GetType().Name}: {e.Message}", ExitCode.Failed),
        };

    /// <summary>Writes the failure to stderr, or as a JSON line to stdout, and returns the exit code.</summary>
    internal static int Report(Exception e, bool json) => Report(Describe(e), json);

    internal static int Report(ErrorLine error, bool json)
    {
        if (json)
            Console.Out.WriteLine(JsonSerializer.Serialize(error, MessagesJson.Default.ErrorLine));
        else
            Console.Error.WriteLine($"bgsnap-agent: {error.Message}");
        return error.ExitCode;
    }
}
