using System.CommandLine;
using System.CommandLine.Parsing;
using Bgsnap.Engine.Capture;
using Bgsnap.Engine.Disks.Graph;
using Bgsnap.Qemu.GuestAgent;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Cli;

/// <summary><c>bgsnap-agent capture</c>.</summary>
internal static class CaptureCommand
{
    private const long SmallestStage = 48 << 20;

    internal static Command Create(string[] arguments)
    {
        Option<string> qmp = QmpSocket("QMP socket of the QEMU to capture");
        Option<string> libvirt = new("--libvirt")
        {
            HelpName = "URI",
            Description =
                "Capture a domain of libvirt, such as qemu:///system or qemu+unix:///session?socket=PATH, which owns its QEMU's monitor",
        };
        Option<string> domain = new("--domain") { HelpName = "NAME|UUID", Description = "The domain's name or UUID in libvirt" };
        Option<string> output = new("--output", "-o")
        {
            Required = true,
            HelpName = "DIR",
            Description = "Directory to create for the snapshot; its parent must exist",
        };
        Option<int> pid = new("--pid")
        {
            HelpName = "PID",
            Description =
                "QEMU's process id; without --qmp and --libvirt the agent finds its monitor: its own QMP socket, or libvirt in "
                + "its container",
        };
        Option<CaptureEngine> engine = new("--engine")
        {
            Description =
                "auto (default): agent where the machine allows it, else qemu; agent: the agent's own; qemu: QEMU's "
                + "background-snapshot",
            HelpName = "auto|agent|qemu",
        };
        Option<PageCompression> compression = new("--compression")
        {
            Description = "How memory is stored (default: none)",
            HelpName = "none|lz4|zstd",
        };
        Option<long> bandwidth = new("--bandwidth-limit")
        {
            HelpName = "RATE",
            Description =
                "Most bytes of RAM to copy per second, such as 500Mi (default: no limit); pages that the guest waits for do not " + "count",
            CustomParser = Size,
        };
        Option<long> stage = new("--stage-memory")
        {
            HelpName = "SIZE",
            Description = "Most memory for buffers between guest and file (default: 512Mi, at least 48Mi)",
            CustomParser = StageSize,
        };
        Option<TimeSpan> downtime = new("--max-downtime")
        {
            HelpName = "TIME",
            Description = "Give up rather than stop the guest for longer than this, such as 250ms (default: 10s)",
            CustomParser = Time,
        };
        Option<bool> json = new("--json") { Description = "Print one JSON object per line instead of bar and table" };
        Option<string> container = new("--container")
        {
            HelpName = "ID",
            Description = "Refuse unless QEMU runs in the container with this id",
        };
        Option<string> guestAgent = new("--guest-agent")
        {
            HelpName = "SOCKET",
            Description = "Unix socket of the guest agent's channel, to freeze the guest's file systems at the point in time",
        };
        Option<QuiescePolicy> quiesce = new("--quiesce")
        {
            HelpName = "if-available|required|never",
            Description = "if-available (default): freeze them if the guest agent answers; required: refuse otherwise; never",
            CustomParser = Policy,
        };
        Option<TimeSpan> quiesceTimeout = new("--quiesce-timeout")
        {
            HelpName = "TIME",
            Description = "Longest wait for an answer of the guest agent (default: 10s)",
            CustomParser = Time,
        };
        Option<AfterCapture> after = new("--after")
        {
            HelpName = "continue|stop",
            Description = "continue (default): the guest runs on; stop: it stays stopped, and the snapshot is its suspended state",
        };
        Option<string> disks = new("--disks")
        {
            HelpName = "all|none|NAME,…",
            Description = "Which of the machine's writable disks to capture (default: all); the summary names them",
        };
        Option<DiskMethod> diskMethod = new("--disk-method")
        {
            HelpName = "auto|copy-before-write|overlay|volume-snapshot",
            Description =
                "How to capture disks. auto (default): copy-before-write, which needs QEMU 7.1; overlay: what the guest writes "
                + "meanwhile is lost if QEMU ends; volume-snapshot: the guest stays stopped until 'release DISK=NAME,…' comes "
                + "on standard input",
            CustomParser = Method,
        };
        Option<bool> decrypt = new("--decrypt-disks")
        {
            Description = "Capture encrypted (LUKS) disks too, and store them decrypted, as the guest sees them (default: refuse them)",
        };
        Option<string> scratch = new("--scratch")
        {
            HelpName = "DIR",
            Description = "Directory for disk data that the guest overwrites before the agent has copied it (default: $TMPDIR or /tmp)",
        };
        Option<long> scratchLimit = new("--scratch-limit")
        {
            HelpName = "SIZE",
            Description = "Most space to use there (default: 10Gi, and never more than nine tenths of the free space)",
            CustomParser = Size,
        };
        Option<string> objects = new("--objects")
        {
            HelpName = "FILE",
            Description = "Store this file with the snapshot: the VM's Kubernetes objects as JSON",
        };
        Option<bool> worker = new("--worker") { Hidden = true };
        engine.AcceptOnlyFromAmong("auto", "agent", "qemu");
        compression.AcceptOnlyFromAmong("none", "lz4", "zstd");
        after.AcceptOnlyFromAmong("continue", "stop");
        Command command = new("capture", "Take a snapshot of a running QEMU while its guest runs on.")
        {
            qmp,
            libvirt,
            domain,
            output,
            pid,
            container,
            engine,
            compression,
            bandwidth,
            stage,
            downtime,
            disks,
            diskMethod,
            decrypt,
            scratch,
            scratchLimit,
            guestAgent,
            quiesce,
            quiesceTimeout,
            after,
            objects,
            json,
            worker,
        };
        command.Check(parsed =>
            CheckMonitor(parsed, parsed.GetValue(qmp), parsed.GetValue(libvirt), parsed.GetValue(domain), parsed.GetResult(pid) is not null)
        );
        command.Check(parsed =>
            CheckQuiesce(
                parsed,
                parsed.GetValue(quiesce),
                parsed.GetValue(qmp) is null || parsed.GetValue(guestAgent) is not null,
                parsed.GetValue(after)
            )
        );
        command.SetAction(parsed =>
        {
            CaptureOptions options = new()
            {
                Monitor = new MonitorAddress
                {
                    QmpSocket = parsed.GetValue(qmp),
                    LibvirtUri = parsed.GetValue(libvirt),
                    Domain = parsed.GetValue(domain),
                    Pid = parsed.GetValue(pid),
                },
                Output = parsed.GetValue(output)!,
                Container = parsed.GetValue(container),
                Engine = parsed.GetValue(engine),
                Compression = parsed.GetValue(compression),
                BandwidthLimit = parsed.GetValue(bandwidth),
                StageBytes = parsed.GetResult(stage) is null ? CaptureOptions.DefaultStageBytes : parsed.GetValue(stage),
                MaxDowntime = parsed.GetValue(downtime),
                Disks = DiskSelection.Parse(parsed.GetValue(disks) ?? "all"),
                DiskMethod = parsed.GetValue(diskMethod),
                DecryptDisks = parsed.GetValue(decrypt),
                ScratchDirectory = parsed.GetValue(scratch) ?? Path.GetTempPath(),
                ScratchLimit = parsed.GetResult(scratchLimit) is null ? ScratchSpace.DefaultLimit : parsed.GetValue(scratchLimit),
                GuestAgentSocket = parsed.GetValue(guestAgent),
                Quiesce = parsed.GetValue(quiesce),
                QuiesceTimeout = parsed.GetResult(quiesceTimeout) is null
                    ? CaptureOptions.DefaultQuiesceTimeout
                    : parsed.GetValue(quiesceTimeout),
                After = parsed.GetValue(after),
            };
            return parsed.GetValue(worker)
                ? CaptureWorker.Run(options, parsed.GetValue(objects))
                : new CaptureSupervisor(options, arguments, parsed.GetValue(json)).Run();
        });
        return command;
    }

    internal static long Size(ArgumentResult result)
    {
        string text = result.Tokens[0].Value;
        if (Quantity.ParseSize(text) is { } size)
            return size;
        result.AddError($"invalid size '{text}' (example: 512Mi)");
        return 0;
    }

    /// <summary>The path of a QMP socket; also accepts QEMU's own form (<c>unix:PATH,server=on</c>).</summary>
    internal static Option<string> QmpSocket(string description)
    {
        const string unix = "unix:";
        Option<string> option = new("--qmp")
        {
            HelpName = "SOCKET",
            Description = description,
            CustomParser = r =>
                r.Tokens[0].Value is { } text && text.StartsWith(unix, StringComparison.Ordinal) && !Path.Exists(text)
                    ? text[unix.Length..].Split(',')[0]
                    : r.Tokens[0].Value,
        };
        // Not in the parser: the command's own checks read the value, and reading a value that failed to parse throws there.
        option.Validators.Add(r =>
        {
            if (
                r.Tokens is [{ Value: { } text }, ..]
                && text.Split(':', 2) is ["tcp" or "telnet" or "fd" or "vsock", _]
                && !Path.Exists(text)
            )
                r.AddError(
                    $"--qmp takes the path of a unix socket only, not '{text}': start QEMU with -qmp unix:PATH,server=on,wait=off as well"
                );
        });
        return option;
    }

    private static long StageSize(ArgumentResult result)
    {
        long size = Size(result);
        if (size < SmallestStage && !result.Errors.Any())
            result.AddError($"--stage-memory: at least {SmallestStage >> 20}Mi are needed");
        return size;
    }

    private static DiskMethod Method(ArgumentResult result)
    {
        switch (result.Tokens[0].Value)
        {
            case "auto":
                return DiskMethod.Auto;
            case "copy-before-write":
                return DiskMethod.CopyBeforeWrite;
            case "overlay":
                return DiskMethod.Overlay;
            case "volume-snapshot":
                return DiskMethod.VolumeSnapshot;
            default:
                result.AddError($"invalid method '{result.Tokens[0].Value}' (auto, copy-before-write, overlay or volume-snapshot)");
                return default;
        }
    }

    private static QuiescePolicy Policy(ArgumentResult result)
    {
        switch (result.Tokens[0].Value)
        {
            case "if-available":
                return QuiescePolicy.IfAvailable;
            case "required":
                return QuiescePolicy.Required;
            case "never":
                return QuiescePolicy.Never;
            default:
                result.AddError($"invalid policy '{result.Tokens[0].Value}' (if-available, required or never)");
                return default;
        }
    }

    internal static void CheckMonitor(CommandResult result, string? qmp, string? libvirt, string? domain, bool process)
    {
        if (qmp is null && libvirt is null && !process)
            result.AddError(
                "no QEMU is named: give its QMP socket with --qmp, a domain of libvirt with --libvirt and --domain, or its process "
                    + "with --pid"
            );
        else if (qmp is not null && libvirt is not null)
            result.AddError("--qmp and --libvirt exclude each other");
        else if (libvirt is null != domain is null)
            result.AddError("--libvirt and --domain belong together");
    }

    private static void CheckQuiesce(CommandResult result, QuiescePolicy policy, bool knowsAgent, AfterCapture after)
    {
        if (policy != QuiescePolicy.Required)
            return;
        if (!knowsAgent)
            result.AddError("--quiesce required: name the guest agent's socket with --guest-agent");
        else if (after == AfterCapture.Stop)
            result.AddError("--quiesce required and --after stop exclude each other: the guest would stay frozen when it is resumed");
    }

    private static TimeSpan Time(ArgumentResult result)
    {
        string text = result.Tokens[0].Value;
        if (Quantity.ParseTime(text) is { } time)
            return time;
        result.AddError($"invalid time '{text}' (example: 250ms)");
        return default;
    }
}
