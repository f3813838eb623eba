using System.CommandLine;
using System.Runtime.InteropServices;
using Bgsnap.NodeAgent.Restore;

namespace Bgsnap.NodeAgent.Cli;

/// <summary><c>bgsnap-agent restore</c>.</summary>
internal static class RestoreCommand
{
    internal static Command Create()
    {
        Argument<string> dir = SnapshotCommands.Directory();
        Option<string> qmp = new("--qmp") { Required = true, HelpName = "SOCKET", Description = "QMP socket of a QEMU with the same machine, started with -incoming defer" };
        Option<string> disks = new("--disks") { HelpName = "all|none", Description = "all: write the snapshot's disks into the images that the QEMU has open (default); none: they are there already", DefaultValueFactory = _ => "all" };
        Option<string> container = new("--container") { HelpName = "ID", Description = "Refuse unless QEMU runs in the container with this id" };
        Option<string> guestAgent = new("--guest-agent") { HelpName = "SOCKET", Description = "Unix socket of the guest agent's channel, to thaw a guest that was captured with its file systems frozen" };
        Option<bool> json = new("--json") { Description = "One JSON object a line instead of bar and sentence" };
        disks.AcceptOnlyFromAmong("all", "none");
        Command command = new("restore", "Bring a snapshot back running in a QEMU that waits for it: its disks, its memory, its devices.") { dir, qmp, disks, container, guestAgent, json };
        command.SetAction(parsed => Run(
            new RestoreOptions
            {
                Directory = parsed.GetValue(dir)!,
                QmpSocket = parsed.GetValue(qmp)!,
                Disks = parsed.GetValue(disks) != "none",
                Container = parsed.GetValue(container),
                GuestAgentSocket = parsed.GetValue(guestAgent),
            },
            parsed.GetValue(json)));
        return command;
    }

    private static int Run(RestoreOptions options, bool json)
    {
        using CancellationTokenSource cancel = new();
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        RestoreProgress progress = new();
        RestoreReporter reporter = new(progress, json);
        try
        {
            _ = SnapshotCommands.Existing(options.Directory);
            RestoreSummary summary;
            try
            {
                summary = RestoreRun.Run(options, new StreamRestore(), progress, cancel.Token);
            }
            finally
            {
                reporter.Dispose();
            }
            reporter.Summarize(summary);
            return ExitCode.Success;
        }
        catch (Exception e)
        {
            return Failure.Report(e, json);
        }

        void Stop(PosixSignalContext context)
        {
            context.Cancel = true;
            cancel.Cancel();
        }
    }
}
