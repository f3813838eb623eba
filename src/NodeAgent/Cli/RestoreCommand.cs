using System.CommandLine;
using System.CommandLine.Parsing;
using Bgsnap.Engine.Capture;
using Bgsnap.Engine.Restore;
using Bgsnap.Engine.Restore.Instant;
using Bgsnap.Linux;
using Bgsnap.NodeAgent.Processes;

namespace Bgsnap.NodeAgent.Cli;

/// <summary><c>bgsnap-agent restore</c>.</summary>
internal static class RestoreCommand
{
    internal static Command Create(string[] arguments)
    {
        Argument<string> dir = SnapshotCommands.Directory();
        Option<string> qmp = CaptureCommand.QmpSocket("QMP socket of a QEMU with the same machine, started with -incoming defer");
        Option<string> libvirt = new("--libvirt")
        {
            HelpName = "URI",
            Description = "A domain of libvirt instead, whose QEMU was started with -incoming defer (qemu:commandline)",
        };
        Option<string> domain = new("--domain") { HelpName = "NAME|UUID", Description = "The domain's name or UUID in libvirt" };
        Option<int> pid = new("--pid")
        {
            HelpName = "PID",
            Description = "Or QEMU's process, whose monitor the agent finds: its own QMP socket, or libvirt in its container",
        };
        Option<string> disks = new("--disks")
        {
            HelpName = "all|none",
            Description =
                "all (default): write the snapshot's disks into the images that QEMU has open; none: the images have that "
                + "content already",
        };
        Option<string> container = new("--container")
        {
            HelpName = "ID",
            Description = "Refuse unless QEMU runs in the container with this id",
        };
        Option<string> guestAgent = new("--guest-agent")
        {
            HelpName = "SOCKET",
            Description = "Unix socket of the guest agent's channel, to thaw a guest that was captured with its file systems frozen",
        };
        Option<RestoreMode> mode = new("--mode")
        {
            HelpName = "auto|instant|eager|stream",
            Description =
                "How memory gets into QEMU. auto (default): the first of the others that works here; instant: the guest runs first, "
                + "and its memory follows; eager: the agent writes it before the guest runs; stream: QEMU loads it itself",
            CustomParser = Mode,
        };
        Option<long> bandwidth = new("--bandwidth-limit")
        {
            HelpName = "RATE",
            Description =
                "With instant: most bytes of memory to load per second while the guest runs, such as 500Mi (default: no limit); "
                + "memory that the guest waits for does not count",
            CustomParser = CaptureCommand.Size,
        };
        Option<bool> smallPages = new("--keep-small-pages")
        {
            Description = "With instant: leave the guest's memory in small pages at the end",
        };
        Option<bool> worker = new("--worker") { Hidden = true };
        Option<bool> guestRan = new(RestoreSupervisor.GuestRan) { Hidden = true };
        Option<bool> json = new("--json") { Description = "Print one JSON object per line instead of bar and sentence" };
        disks.AcceptOnlyFromAmong("all", "none");
        Command command = new("restore", "Restore a snapshot's disks, memory and devices into a QEMU that waits for it, and run the guest.")
        {
            dir,
            qmp,
            libvirt,
            domain,
            pid,
            disks,
            container,
            guestAgent,
            mode,
            bandwidth,
            smallPages,
            json,
            worker,
            guestRan,
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
            Run(
                new RestoreOptions
                {
                    Directory = Path.GetFullPath(parsed.GetValue(dir)!),
                    Target = new MonitorAddress
                    {
                        QmpSocket = parsed.GetValue(qmp),
                        LibvirtUri = parsed.GetValue(libvirt),
                        Domain = parsed.GetValue(domain),
                        Pid = parsed.GetValue(pid),
                    },
                    Disks = parsed.GetValue(disks) != "none",
                    Container = parsed.GetValue(container),
                    GuestAgentSocket = parsed.GetValue(guestAgent),
                    Mode = parsed.GetValue(mode),
                    HugePages = !parsed.GetValue(smallPages),
                    BytesPerSecond = parsed.GetValue(bandwidth),
                    GuestRan = parsed.GetValue(guestRan),
                },
                parsed.GetValue(json),
                parsed.GetValue(worker),
                arguments
            )
        );
        return command;
    }

    private static IMemoryRestore Way(RestoreOptions options) =>
        options.Mode switch
        {
            RestoreMode.Auto => new AutoRestore(options),
            RestoreMode.Instant => new InstantRestore(options),
            RestoreMode.Eager => new EagerRestore(),
            _ => new StreamRestore(),
        };

    private static RestoreMode Mode(ArgumentResult result)
    {
        string text = result.Tokens[0].Value;
        if (Enum.TryParse(text, ignoreCase: true, out RestoreMode mode) && !int.TryParse(text, out _))
            return mode;
        result.AddError($"invalid mode '{text}' (auto, instant, eager or stream)");
        return RestoreMode.Auto;
    }

    private static int Run(RestoreOptions options, bool json, bool worker, string[] arguments)
    {
        // A guest whose memory we load must not depend on one process: a supervisor watches the worker and starts another one when it dies.
        if (!worker && options.Mode is (RestoreMode.Auto or RestoreMode.Instant))
            return new RestoreSupervisor(arguments, json).Run();
        using StandstillLimit? limit = worker ? new() : null;
        using CancellationTokenSource cancel = new();
        using EndSignals signals = new(cancel.Cancel);
        RestoreProgress progress = new();
        RestoreReporter reporter = new(progress, json);
        try
        {
            _ = SnapshotCommands.Existing(options.Directory);
            RestoreSummary summary;
            try
            {
                summary = RestoreRun.Run(options, Way(options), progress, cancel.Token);
            }
            finally
            {
                reporter.Dispose();
            }
            RestoreReporter.Summarize(RestoreReporter.LineOf(summary), json);
            return ExitCode.Success;
        }
        catch (Exception e)
        {
            return Failure.Report(e, json);
        }
    }
}
