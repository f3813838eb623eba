using System.Runtime.InteropServices;
using System.Text.Json;
using Bgsnap.NodeAgent.Capture;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>
/// The process that captures. It speaks JSON lines to its parent, at least ten a second while the thread the guest depends on is alive,
/// and gives up when its parent is gone (its standard input ends).
/// </summary>
internal static class CaptureWorker
{
    private const int ReportMilliseconds = 100;
    private static readonly TimeSpan FaultThreadLimit = TimeSpan.FromMilliseconds(800);

    /// <param name="options">What is asked for.</param>
    /// <param name="objects">A file to be kept with the snapshot; null: none.</param>
    internal static int Run(CaptureOptions options, string? objects)
    {
        using CancellationTokenSource cancel = new();
        // Ctrl-C goes to all of a terminal's group: we end in good order, as our parent asks us to.
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, GiveUp);
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, GiveUp);
        HoldGate hold = new();
        Listen(hold, cancel);
        CaptureProgress progress = new();
        // The parent must know that the guest depends on us before it does.
        progress.PhaseChanged = () => Say(progress, 0);
        using CancellationTokenSource done = new();
        Thread reporter = new(() => Report(progress, done.Token), 256 * 1024) { IsBackground = true, Name = "progress" };
        reporter.Start();
        try
        {
            if (objects is not null)
                options = options with { Objects = MachineFiles.ReadObjects(objects) };
            CaptureSummary summary = CaptureRun.Take(options, progress, hold, cancel.Token);
            done.Cancel();
            reporter.Join();
            Console.Out.WriteLine(JsonSerializer.Serialize(new SummaryLine("summary", summary), MessagesJson.Default.SummaryLine));
            return ExitCode.Success;
        }
        catch (Exception e)
        {
            done.Cancel();
            reporter.Join();
            return Failure.Report(e, json: true);
        }
    }

    private static void GiveUp(PosixSignalContext context) => context.Cancel = true;

    /// <summary>Listens to the parent: its end, or its word, gives up or releases.</summary>
    private static void Listen(HoldGate hold, CancellationTokenSource cancel)
    {
        Thread watch = new(() =>
        {
            using StreamReader input = new(Console.OpenStandardInput());
            while (input.ReadLine() is { } line && line != "abort")
            {
                if (line.Split(' ', 2, StringSplitOptions.TrimEntries) is ["release", ..] words)
                    hold.Release(ReadNames(words.Length > 1 ? words[1] : ""));
            }
            cancel.Cancel();
        }, 256 * 1024)
        { IsBackground = true, Name = "parent" };
        watch.Start();
    }

    /// <summary>Reads <c>DISK=NAME,…</c>.</summary>
    internal static IReadOnlyDictionary<string, string> ReadNames(string text) => text
        .Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
        .Select(pair => pair.Split('=', 2)).Where(pair => pair.Length == 2).ToDictionary(pair => pair[0], pair => pair[1], StringComparer.Ordinal);

    private static void Report(CaptureProgress progress, CancellationToken done)
    {
        Linux.ThreadPriority.Raise(10);
        long lastCopied = 0, lastAlive = -1;
        long aliveAt = Environment.TickCount64, lastAt = aliveAt;
        do
        {
            long now = Environment.TickCount64;
            if (progress.Alive != lastAlive || !CaptureProgress.HoldsGuest(progress.Phase))
                (lastAlive, aliveAt) = (progress.Alive, now);
            // A fault thread that does not come round is as bad as a stopped process: the parent will act on the silence.
            if (now - aliveAt > FaultThreadLimit.TotalMilliseconds)
                continue;
            long copied = progress.CopiedBytes + progress.DiskCopiedBytes;
            Say(progress, now > lastAt ? (copied - lastCopied) * 1000.0 / (now - lastAt) : 0);
            (lastCopied, lastAt) = (copied, now);
        }
        while (!done.WaitHandle.WaitOne(ReportMilliseconds));
    }

    private static void Say(CaptureProgress progress, double bytesPerSecond)
    {
        long copied = progress.CopiedBytes, total = progress.TotalBytes, disk = progress.DiskCopiedBytes, disks = progress.DiskTotalBytes;
        double percent = progress.Phase switch { "Done" => 100, _ when total > 0 => Math.Min(100, 100.0 * (copied + disk) / (total + disks)), _ => 0 };
        Console.Out.WriteLine(JsonSerializer.Serialize(new ProgressLine("progress", progress.Phase, Math.Round(percent, 1), copied, total,
            Math.Max(0, total - copied), progress.WrittenBytes, Math.Round(bytesPerSecond), progress.Faults, progress.PointInTime, disk, disks, progress.HeldDisks), MessagesJson.Default.ProgressLine));
    }
}
