using System.Text.Json;
using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.NodeAgent.Processes;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>
/// The process that captures. It writes JSON lines to its parent, ten a second, and gives up when its parent is gone (its standard input
/// ends). A parent that does not read holds up nothing.
/// </summary>
internal static class CaptureWorker
{
    private const int ReportMilliseconds = 100;

    // Giving up takes longer only if a thread hangs with the volume: then the parent has to end this process.
    private static readonly TimeSpan GivingUp = TimeSpan.FromSeconds(5);

    // A stopped parent may continue later; until then only this process waits.
    private static readonly TimeSpan LastWords = TimeSpan.FromMinutes(1),
        FirstWord = TimeSpan.FromMilliseconds(50);

    /// <param name="options">The options of the capture.</param>
    /// <param name="objects">A file to keep with the snapshot; null: none.</param>
    internal static int Run(CaptureOptions options, string? objects)
    {
        using StandstillLimit limit = new();
        using CancellationTokenSource cancel = new();
        // A terminal sends Ctrl-C to its whole process group; this process ends in good order, when the parent asks it to.
        using EndSignals signals = new(() => { });
        HoldGate hold = new();
        Listen(hold, cancel);
        CaptureProgress progress = new();
        // The parent must know that the guest depends on this process before it does.
        LineOutbox outbox = new();
        progress.PhaseChanged = () =>
        {
            Say(progress, 0, outbox);
            if (progress.Phase == "Protecting")
                _ = outbox.Flush(FirstWord);
        };
        using CancellationTokenSource done = new();
        // A parent that hears nothing kills this process; it is better to give up before that.
        Thread reporter = AgentThread.Start("progress", () => Report(progress, outbox, done.Token), failed: _ => cancel.Cancel());
        try
        {
            if (objects is not null)
                options = options with { Objects = MachineFiles.ReadObjects(objects) };
            CaptureSummary summary = CaptureRun.Take(options, progress, hold, cancel.Token);
            done.Cancel();
            reporter.Join();
            outbox.Say(JsonSerializer.Serialize(new SummaryLine("summary", summary), MessagesJson.Default.SummaryLine));
            return ExitCode.Success;
        }
        catch (Exception e)
        {
            done.Cancel();
            reporter.Join();
            ErrorLine error = Failure.Describe(e);
            if (progress.FinalGuestState is { } guest)
                error = error with { Message = $"{error.Message.TrimEnd('.')}; {guest.Words}", NeedsCare = !guest.Asked };
            outbox.Say(JsonSerializer.Serialize(error, MessagesJson.Default.ErrorLine));
            return error.ExitCode;
        }
        finally
        {
            _ = outbox.Flush(LastWords);
        }
    }

    /// <summary>Listens to the parent: the end of input, or <c>abort</c>, cancels; <c>release</c> releases the guest.</summary>
    private static void Listen(HoldGate hold, CancellationTokenSource cancel) =>
        AgentThread.Start(
            "parent",
            () =>
            {
                using StreamReader input = new(Console.OpenStandardInput());
                while (input.ReadLine() is { } line && line != "abort")
                {
                    if (line.Split(' ', 2, StringSplitOptions.TrimEntries) is ["release", ..] words)
                        hold.Release(ReadNames(words.Length > 1 ? words[1] : ""));
                }
                cancel.Cancel();
            },
            failed: _ => cancel.Cancel()
        );

    /// <summary>Reads <c>DISK=NAME,…</c>.</summary>
    internal static IReadOnlyDictionary<string, string> ReadNames(string text) =>
        text.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
            .Select(pair => pair.Split('=', 2))
            .Where(pair => pair.Length == 2)
            .ToDictionary(pair => pair[0], pair => pair[1], StringComparer.Ordinal);

    private static void Report(CaptureProgress progress, LineOutbox outbox, CancellationToken done)
    {
        Linux.ThreadPriority.Raise(10);
        long lastCopied = 0,
            lastAt = Environment.TickCount64,
            failingSince = 0;
        do
        {
            long now = Environment.TickCount64;
            failingSince =
                progress.Failing is null ? 0
                : failingSince == 0 ? now
                : failingSince;
            if (failingSince != 0 && now - failingSince > GivingUp.TotalMilliseconds)
                continue;
            long copied = progress.CopiedBytes + progress.DiskCopiedBytes;
            Say(progress, now > lastAt ? (copied - lastCopied) * 1000.0 / (now - lastAt) : 0, outbox);
            (lastCopied, lastAt) = (copied, now);
        } while (!done.WaitHandle.WaitOne(ReportMilliseconds));
    }

    private static void Say(CaptureProgress progress, double bytesPerSecond, LineOutbox outbox)
    {
        long copied = progress.CopiedBytes,
            total = progress.TotalBytes,
            disk = progress.DiskCopiedBytes,
            disks = progress.DiskTotalBytes;
        double percent = progress.Phase switch
        {
            "Done" => 100,
            _ when total > 0 => Math.Min(100, 100.0 * (copied + disk) / (total + disks)),
            _ => 0,
        };
        outbox.Offer(
            JsonSerializer.Serialize(
                new ProgressLine(
                    "progress",
                    progress.Phase,
                    Math.Round(percent, 1),
                    copied,
                    total,
                    Math.Max(0, total - copied),
                    progress.WrittenBytes,
                    Math.Round(bytesPerSecond),
                    progress.Faults,
                    progress.PointInTime,
                    disk,
                    disks,
                    progress.HeldDisks,
                    progress.Failing is { } failing ? Failure.Describe(failing) : null,
                    progress.Snapshot
                ),
                MessagesJson.Default.ProgressLine
            )
        );
    }
}
