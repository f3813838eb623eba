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

    internal static int Run(CaptureOptions options)
    {
        using CancellationTokenSource cancel = new();
        Watch(cancel);
        CaptureProgress progress = new();
        // The parent must know that the guest depends on us before it does.
        progress.PhaseChanged = () => Say(progress, 0);
        using CancellationTokenSource done = new();
        Thread reporter = new(() => Report(progress, done.Token), 256 * 1024) { IsBackground = true, Name = "progress" };
        reporter.Start();
        try
        {
            CaptureSummary summary = CaptureRun.Take(options, progress, cancel.Token);
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

    private static void Watch(CancellationTokenSource cancel)
    {
        Thread watch = new(() =>
        {
            Span<byte> one = stackalloc byte[1];
            using Stream input = Console.OpenStandardInput();
            while (input.Read(one) > 0)
            {
            }
            cancel.Cancel();
        }, 256 * 1024)
        { IsBackground = true, Name = "parent" };
        watch.Start();
    }

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
            long copied = progress.CopiedBytes;
            Say(progress, now > lastAt ? (copied - lastCopied) * 1000.0 / (now - lastAt) : 0);
            (lastCopied, lastAt) = (copied, now);
        }
        while (!done.WaitHandle.WaitOne(ReportMilliseconds));
    }

    private static void Say(CaptureProgress progress, double bytesPerSecond)
    {
        long copied = progress.CopiedBytes, total = progress.TotalBytes;
        double percent = progress.Phase switch { "Done" => 100, _ when total > 0 => Math.Min(100, 100.0 * copied / total), _ => 0 };
        Console.Out.WriteLine(JsonSerializer.Serialize(new ProgressLine("progress", progress.Phase, Math.Round(percent, 1), copied, total,
            Math.Max(0, total - copied), progress.WrittenBytes, Math.Round(bytesPerSecond), progress.Faults, progress.PointInTime), MessagesJson.Default.ProgressLine));
    }
}
