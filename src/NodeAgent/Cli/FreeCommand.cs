using System.CommandLine;
using System.Text.Json;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.NodeAgent.Processes;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;
using Bgsnap.Vocabulary;

namespace Bgsnap.NodeAgent.Cli;

/// <summary><c>bgsnap-agent free</c>: frees a guest whose capture died. The node's agent runs it in a process of its own.</summary>
internal static class FreeCommand
{
    internal static Command Create()
    {
        Option<string> qmp = new("--qmp") { HelpName = "SOCKET", Description = "QMP socket of the QEMU" };
        Option<string> libvirt = new("--libvirt") { HelpName = "URI", Description = "Or a domain of libvirt" };
        Option<string> domain = new("--domain") { HelpName = "NAME|UUID", Description = "The domain's name or UUID in libvirt" };
        Option<int> pid = new("--pid") { HelpName = "PID", Description = "Or QEMU's process, whose monitor the agent finds" };
        Option<string> container = new("--container")
        {
            HelpName = "ID",
            Description = "Refuse unless QEMU runs in the container with this id",
        };
        Option<string> guestAgent = new("--guest-agent")
        {
            HelpName = "SOCKET",
            Description = "Unix socket of the guest agent's channel, to thaw file systems that the capture froze",
        };
        Option<bool> json = new("--json") { Description = "Print one JSON object" };
        Command command = new(
            "free",
            "Resume and thaw a guest that a capture which died left stopped or frozen, and remove what it left in QEMU."
        )
        {
            qmp,
            libvirt,
            domain,
            pid,
            container,
            guestAgent,
            json,
        };
        command.Check(parsed =>
            CaptureCommand.CheckMonitor(
                parsed,
                parsed.GetValue(qmp),
                parsed.GetValue(libvirt),
                parsed.GetValue(domain),
                parsed.GetResult(pid) is not null
            )
        );
        command.SetAction(parsed =>
        {
            MonitorAddress monitor = new()
            {
                QmpSocket = parsed.GetValue(qmp),
                LibvirtUri = parsed.GetValue(libvirt),
                Domain = parsed.GetValue(domain),
                Pid = parsed.GetValue(pid),
            };
            return Run(monitor, parsed.GetValue(container), parsed.GetValue(guestAgent), parsed.GetValue(json));
        });
        return command;
    }

    private static int Run(MonitorAddress monitor, string? container, string? guestAgent, bool json)
    {
        try
        {
            if (monitor.QmpSocket is { } path)
                SeeWhetherThere(path);
            using IQmpMonitor qmp = monitor.Open();
            using CheckedProcess? process = QemuProcess.Hold(qmp, monitor.Pid);
            if (container is not null && (process is null || !ContainerProcesses.IsIn(process, container)))
                throw new RefusedException(
                    Reasons.ForeignProcess,
                    $"the process behind the QMP socket ({process?.Pid}) does not run in container {container}: it is another VM's"
                );
            using QemuClaim? claim = process is null ? null : QemuClaim.Take(process, QemuClaim.Moment, Reasons.QemuBusy);
            SweepResult swept = Leftovers.Sweep(qmp, process, guestAgent);
            FinalGuestState guest = FinalGuestState.Ask(qmp);
            if (!guest.Asked)
                throw new QmpException(guest.Words);
            FreedLine line = new("summary", guest.Words, swept.Removed, swept.Thawed, swept.NotThawed, swept.Resumed);
            Console.Out.WriteLine(json ? JsonSerializer.Serialize(line, MessagesJson.Default.FreedLine) : Text(line));
            return swept.NotThawed is null ? ExitCode.Success : ExitCode.Failed;
        }
        catch (Exception e)
        {
            return Failure.Report(e, json);
        }
    }

    /// <summary>Throws if nobody listens on the socket: it has outlived its QEMU.</summary>
    private static void SeeWhetherThere(string path)
    {
        try
        {
            UnixSocket.ConnectTo(path, TimeSpan.FromSeconds(10)).Dispose();
        }
        catch (LinuxException e) when (e.Errno is Errno.ENOENT or Errno.ECONNREFUSED)
        {
            throw new CaptureFailedException(Reasons.QemuGone, $"no QEMU listens at {path}: it has ended");
        }
        catch (LinuxException)
        {
            // Somebody listens.
        }
    }

    private static string Text(FreedLine line) =>
        $"{line.Guest}; {line.Removed} leftovers were removed from "
        + $"QEMU{(line.Thawed ? "; its file systems were thawed" : "")}{(line.NotThawed is { } why ? $"; {why}" : "")}";
}
