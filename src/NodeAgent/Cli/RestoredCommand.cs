using System.CommandLine;
using System.Text.Json;
using Bgsnap.Engine.Capture;
using Bgsnap.Engine.Restore;
using Bgsnap.NodeAgent.Processes;
using Bgsnap.Qemu.GuestAgent;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>
/// <c>bgsnap-agent restored</c>: reports the state of a guest whose restore ended with a dead agent, and thaws it if it was captured
/// frozen. The node's agent runs it in a process of its own.
/// </summary>
internal static class RestoredCommand
{
    internal static Command Create()
    {
        Argument<string> dir = SnapshotCommands.Directory();
        Option<string> qmp = new("--qmp"),
            container = new("--container"),
            guestAgent = new("--guest-agent");
        Option<int> pid = new("--pid");
        Option<bool> json = new("--json");
        Command command = new("restored", "Report the state of a guest whose restore died.") { dir, qmp, pid, container, guestAgent, json };
        command.Hidden = true;
        command.SetAction(parsed =>
        {
            MonitorAddress monitor = new() { QmpSocket = parsed.GetValue(qmp), Pid = parsed.GetValue(pid) };
            return Run(parsed.GetValue(dir)!, monitor, parsed.GetValue(container), parsed.GetValue(guestAgent), parsed.GetValue(json));
        });
        return command;
    }

    private static int Run(string dir, MonitorAddress address, string? container, string? guestAgent, bool json)
    {
        try
        {
            using TargetMonitor monitor = TargetMonitor.At(address);
            using RestoreTarget target = RestoreTarget.Connect(monitor, container, mustWait: false);
            string state = target.RunState();
            string? frozen = null;
            if (RestoreTarget.HasAll(state))
            {
                using SnapshotDirectory snapshot = SnapshotDirectory.Open(dir);
                GuestAgentAddress? agent = GuestAgentAddress.Of(guestAgent, target.Qmp);
                frozen = FrozenGuest.Thaw(snapshot.Manifest, agent, state, ThawRetry.Patience, out _);
            }
            RestoredLine line = new("summary", state, frozen);
            Console.Out.WriteLine(json ? JsonSerializer.Serialize(line, MessagesJson.Default.RestoredLine) : Text(line));
            return ExitCode.Success;
        }
        catch (Exception e)
        {
            return Failure.Report(e, json);
        }
    }

    private static string Text(RestoredLine line) => line.StillFrozen is { } why ? $"{line.GuestState}; {why}" : line.GuestState;
}
