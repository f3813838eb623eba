using System.Text.Json;
using Bgsnap.Engine.Restore;
using Bgsnap.NodeAgent.Processes;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>
/// Reports the progress of a restore: on a terminal one line that is overwritten, JSON lines if requested, else nothing.
/// </summary>
internal sealed class RestoreReporter : IDisposable
{
    private const int PauseMilliseconds = 200;
    private readonly RestoreProgress _progress;
    private readonly bool _json;
    private readonly bool _terminal;
    private readonly ManualResetEventSlim _ended = new();
    private readonly Thread _thread;
    private string? _problem;

    internal RestoreReporter(RestoreProgress progress, bool json)
    {
        _progress = progress;
        _json = json;
        _terminal = !json && !Console.IsErrorRedirected;
        // If nobody reads any more, the restore continues.
        _thread = Linux.AgentThread.Start("progress", Report, failed: _ => { });
    }

    /// <summary>The current progress as a line.</summary>
    internal static RestoreProgressLine Line(RestoreProgress progress, double bytesPerSecond)
    {
        long done = progress.DoneBytes,
            total = progress.TotalBytes;
        // The manifest only estimates how much of a disk is written, so 100 is reserved for the end.
        double percent =
            progress.Phase == "Done" ? 100
            : total > 0 ? Math.Min(99.9, 100.0 * done / total)
            : 0;
        return new RestoreProgressLine(
            "progress",
            progress.Phase,
            Math.Round(percent, 1),
            done,
            total,
            Math.Round(bytesPerSecond),
            progress.Faults,
            progress.Problem,
            progress.GuestRuns,
            progress.TimeToRunMicroseconds,
            progress.Method,
            progress.Method is null ? null : progress.MethodReason
        );
    }

    /// <summary>The result of a successful restore as a line.</summary>
    internal static RestoreSummaryLine LineOf(RestoreSummary s) =>
        new(
            "summary",
            s.Snapshot,
            s.Method,
            s.TimeToRunMicroseconds,
            s.TotalMicroseconds,
            s.DisksMicroseconds,
            s.MemoryMicroseconds,
            s.RamBytes,
            s.DiskBytes,
            s.Disks,
            s.GuestState,
            s.Thawed,
            s.StillFrozen,
            s.MethodReason,
            s.Instant is { } i
                ? new InstantLine(
                    i.TakenOver,
                    i.Faults.Count,
                    i.Faults.P50Microseconds,
                    i.Faults.P99Microseconds,
                    i.Faults.MaxMicroseconds,
                    i.RecordedUnits,
                    i.HugeBytes,
                    i.Left
                )
                : null,
            s.LoadMicroseconds,
            s.Dropped.Count > 0 ? s.Dropped : null
        );

    /// <summary>Writes the result.</summary>
    internal static void Summarize(RestoreSummaryLine s, bool json)
    {
        if (json)
        {
            Console.Out.WriteLine(JsonSerializer.Serialize(s, MessagesJson.Default.RestoreSummaryLine));
            return;
        }
        string disks =
            s.Disks.Count == 0
                ? ""
                : $", disks {string.Join(", ", s.Disks)} ({Quantity.FormatSize(s.DiskBytes)}) in "
                    + $"{Quantity.FormatTime(s.DisksMicroseconds)}";
        Console.Out.WriteLine(
            $"{s.GuestState} after {Quantity.FormatTime(s.TimeToRunMicroseconds)}: {Quantity.FormatSize(s.RamBytes)} of RAM in "
                + $"{Quantity.FormatTime(s.MemoryMicroseconds)}{disks}{(s.Thawed > 0 ? $"; {s.Thawed} file systems thawed" : "")}"
        );
        if (s.Instant is { } i)
        {
            Console.Out.WriteLine(
                $"{(i.TakenOver ? "taken over from an agent that died, " : "")}all memory loaded after "
                    + $"{Quantity.FormatTime(s.TotalMicroseconds)}; "
                    + $"{i.Faults} faults, half within {Quantity.FormatTime(i.FaultP50Microseconds)}, "
                    + $"99 % within {Quantity.FormatTime(i.FaultP99Microseconds)}, "
                    + $"the longest {Quantity.FormatTime(i.FaultMaxMicroseconds)}"
                    + $"{(i.HugeBytes > 0 ? $"; {Quantity.FormatSize(i.HugeBytes)} in huge pages" : "")}"
            );
            if (i.Left is { } left)
                Console.Error.WriteLine($"warning: {left}");
        }
        if (s.MethodReason is { } reason)
            Console.Out.WriteLine($"{s.Method}: {reason}");
        foreach (string dropped in s.Dropped ?? [])
            Console.Error.WriteLine($"warning: {dropped}");
        if (s.StillFrozen is { } frozen)
            Console.Error.WriteLine($"warning: {frozen}");
    }

    private void Report()
    {
        if (!_json && !_terminal)
            return;
        long lastDone = 0,
            lastAt = Environment.TickCount64;
        bool ended;
        do
        {
            ended = _ended.Wait(PauseMilliseconds);
            long now = Environment.TickCount64,
                done = _progress.DoneBytes;
            Say(Line(_progress, now > lastAt ? (done - lastDone) * 1000.0 / (now - lastAt) : 0));
            (lastDone, lastAt) = (done, now);
        } while (!ended);
        if (_terminal)
            Console.Error.WriteLine();
    }

    private void Say(RestoreProgressLine p)
    {
        if (_json)
        {
            Console.Out.WriteLine(JsonSerializer.Serialize(p, MessagesJson.Default.RestoreProgressLine));
            return;
        }
        if (p.Problem is { } problem && problem != _problem)
            Console.Error.WriteLine($"\r\e[Kwarning: {problem}");
        _problem = p.Problem;
        Console.Error.Write(ProgressBar.Text(p));
    }

    /// <summary>Reports the last progress, and ends.</summary>
    public void Dispose()
    {
        _ended.Set();
        _thread.Join();
        _ended.Dispose();
    }
}
