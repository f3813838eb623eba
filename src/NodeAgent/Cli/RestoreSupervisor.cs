using System.Diagnostics;
using System.Text.Json;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Engine.Restore;
using Bgsnap.Linux;
using Bgsnap.NodeAgent.Processes;
using Bgsnap.Vocabulary;
using RestoreProgress = Bgsnap.Engine.Restore.RestoreProgress;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>
/// Runs an instant restore in a child process and watches it. If the child dies or falls silent, the guest waits and takes no harm: the
/// supervisor starts another child, which finds in QEMU what has been done and continues.
/// </summary>
/// <remarks>If the supervisor itself is killed, the child continues to its end; its output is then lost.</remarks>
internal sealed class RestoreSupervisor(IReadOnlyList<string> arguments, bool json)
{
    /// <summary>Tells a child that an earlier child got the guest to run.</summary>
    internal const string GuestRan = "--guest-ran";

    private const int SIGKILL = 9,
        SIGTERM = 15;

    // A guest that touches missing memory waits this long; a busy machine may take its time.
    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(5);

    /// <summary>Number of deaths without progress after which the supervisor gives up.</summary>
    private const int MostDeaths = 5;

    private readonly RestoreProgress _progress = new();

    // A slow reader of our output must not keep us from reading the child's output, or from starting another child.
    private readonly LineOutbox _outbox = new();
    private volatile CheckedProcess? _child;
    private long _heardAt;
    private volatile bool _cancelled;
    private volatile bool _guestRuns;

    internal int Run()
    {
        using EndSignals signals = new(Cancel);
        // If the watchdog fails, it is started again: a child that falls silent must not go unnoticed.
        _ = AgentThread.Start("watchdog", Watch, failed: _ => Watch());
        // With JSON the child's own lines are forwarded.
        RestoreReporter? reporter = json ? null : new(_progress, false);
        RestoreSummaryLine? summary = null;
        ErrorLine? error = null;
        int code = ExitCode.Success;
        try
        {
            long lastDone = -1;
            for (int deaths = 0; summary is null && error is null; )
            {
                code = RunChild(ref summary, ref error);
                if (summary is not null || error is not null)
                    break;
                // Memory that the child loaded stays loaded; only deaths without progress count.
                deaths = _progress.DoneBytes > lastDone ? 1 : deaths + 1;
                lastDone = _progress.DoneBytes;
                if (_cancelled || deaths == MostDeaths)
                    error = Died(code);
            }
        }
        finally
        {
            reporter?.Dispose();
        }
        _ = _outbox.Flush(Timeout.InfiniteTimeSpan);
        if (error is not null)
            return Failure.Report(error, json);
        RestoreReporter.Summarize(summary!, json);
        return ExitCode.Success;
    }

    private int RunChild(ref RestoreSummaryLine? summary, ref ErrorLine? error)
    {
        ProcessStartInfo start = new(Environment.ProcessPath ?? "/proc/self/exe")
        {
            RedirectStandardOutput = true,
            UseShellExecute = false,
        };
        foreach (string a in arguments)
            start.ArgumentList.Add(a);
        start.ArgumentList.Add("--worker");
        if (!json)
            start.ArgumentList.Add("--json");
        if (_guestRuns)
            start.ArgumentList.Add(GuestRan);
        ChildLimits.Set(start);
        using Process child = Process.Start(start) ?? throw new InvalidOperationException("the restoring process could not be started");
        Volatile.Write(ref _heardAt, Environment.TickCount64);
        using CheckedProcess? held = CheckedProcess.TryOpen(child);
        ChildLimits.EndedFirst(held);
        _child = held;
        BoundedLineReader lines = new(child.StandardOutput.BaseStream);
        while (lines.Next() is { } line)
        {
            Volatile.Write(ref _heardAt, Environment.TickCount64);
            Take(line, ref summary, ref error);
        }
        child.WaitForExit();
        _child = null;
        return child.ExitCode;
    }

    private void Take(string line, ref RestoreSummaryLine? summary, ref ErrorLine? error)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(line);
            switch (document.RootElement.GetProperty("type").GetString())
            {
                case "progress":
                    RestoreProgressLine p = document.RootElement.Deserialize(MessagesJson.Default.RestoreProgressLine)!;
                    _guestRuns |= p.Phase is "Running" or "Thaw" or "HugePages";
                    _progress.Set(p.Phase, p.CopiedBytes, p.TotalBytes, p.Faults, p.Problem);
                    if (json)
                        _outbox.Offer(line);
                    break;
                case "summary":
                    summary = document.RootElement.Deserialize(MessagesJson.Default.RestoreSummaryLine);
                    break;
                case "error":
                    error = document.RootElement.Deserialize(MessagesJson.Default.ErrorLine);
                    break;
            }
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            // The line was cut off by the child's death.
        }
    }

    private ErrorLine Died(int code)
    {
        string left =
            _progress.Phase == "HugePages" ? "The guest runs and has all of its memory, some of it still in small pages"
            : _guestRuns
                ? "The guest runs, and waits as soon as it touches memory that is not loaded yet: run the same command again to continue"
            : "Run the same command again; if QEMU does not take it, restart QEMU";
        return new ErrorLine("error", Reasons.AgentDied, $"the restoring process died (exit code {code}). {left}", ExitCode.Failed);
    }

    private void Cancel()
    {
        _cancelled = true;
        Signal(SIGTERM);
    }

    private void Watch()
    {
        while (true)
        {
            Thread.Sleep(200);
            if (_child is not null && Environment.TickCount64 - Volatile.Read(ref _heardAt) > Silence.TotalMilliseconds)
                Signal(SIGKILL);
        }
    }

    private void Signal(int signal) => _child?.Signal(signal);
}
