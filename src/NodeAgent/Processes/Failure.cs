using System.Text.Json;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Engine.Capture;
using Bgsnap.Engine.Restore;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.SnapshotFormat.Streams;
using Bgsnap.Vocabulary;

namespace Bgsnap.NodeAgent.Processes;

/// <summary>Turns an exception into a reason, a message and an exit code, for people and for scripts.</summary>
internal static class Failure
{
    internal static ErrorLine Describe(Exception e) =>
        e switch
        {
            RefusedException r => new("error", r.Reason, r.Message, ExitCode.Refused),
            CaptureFailedException f => new("error", f.Reason, f.Message, ExitCode.Failed),
            EngineUnavailableException u => new("error", Reasons.EngineUnavailable, u.Message, ExitCode.EngineUnavailable),
            SnapshotCorruptException c => new("error", Reasons.SnapshotCorrupt, c.Message, ExitCode.Corrupt),
            RestoreRefusedException r => new("error", r.Reason, r.Message, ExitCode.Refused),
            RestoreFailedException r => new(
                "error",
                r.Reason,
                r.Message,
                r.Reason == Reasons.Cancelled ? ExitCode.Cancelled : ExitCode.Failed
            ),
            MigrationStreamException m => new("error", Reasons.StreamBroken, m.Message, ExitCode.Failed),
            QmpException { ErrorClass: "CommandNotFound" } q => new(
                "error",
                Reasons.QemuTooOld,
                $"this QEMU lacks a command that the agent needs: {q.Message}",
                ExitCode.Refused
            ),
            QmpException { ErrorClass: not null } q => new(
                "error",
                Reasons.QemuRefused,
                $"QEMU refused a command: {q.Message}",
                ExitCode.Failed
            ),
            QmpException { Floods: true } q => new("error", Reasons.PeerFloods, q.Message, ExitCode.Failed),
            QmpException { IsOdd: true } q => new("error", Reasons.QemuAnswersOddly, q.Message, ExitCode.Failed),
            QmpException q => new("error", Reasons.QemuUnreachable, q.Message, ExitCode.QemuUnreachable),
            OperationCanceledException => new("error", Reasons.Cancelled, "cancelled; nothing was kept", ExitCode.Cancelled),
            LinuxException { Errno: Errno.ENOSPC } l => new("error", Reasons.TargetFull, l.Message, ExitCode.Failed),
            LinuxException { Errno: Errno.EEXIST } l => new("error", Reasons.OutputExists, l.Message, ExitCode.Refused),
            LinuxException l => new("error", Reasons.SystemCallFailed, l.Message, ExitCode.Failed),
            ArgumentException { ParamName: { } name } a => new(
                "error",
                Reasons.BadArgument,
                a.Message.Replace($" (Parameter '{name}')", "", StringComparison.Ordinal),
                ExitCode.Usage
            ),
            ArgumentException a => new("error", Reasons.BadArgument, a.Message, ExitCode.Usage),
            DirectoryNotFoundException d => new("error", Reasons.SnapshotNotFound, d.Message, ExitCode.Refused),
            IOException or UnauthorizedAccessException => new("error", Reasons.InputOutput, e.Message, ExitCode.Failed),
            _ => new("error", Reasons.InternalError, $"{e.GetType().Name}: {e.Message}", ExitCode.Failed),
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
