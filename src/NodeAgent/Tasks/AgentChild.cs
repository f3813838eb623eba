using System.Diagnostics;
using System.Text.Json;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Linux;
using Bgsnap.NodeAgent.Processes;
using Bgsnap.Vocabulary;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>
/// Runs a command of this program with <c>--json</c> in a process of its own, so that the agent survives whatever happens to it. The
/// process's managed memory is limited, and if the node runs out of memory the kernel ends it before the agent. So no tenant's QEMU or
/// files, which the process reads, can end another tenant's capture.
/// </summary>
internal static class AgentChild
{
    private const int SIGTERM = 15,
        SIGKILL = 9;
    private const int MostComplaints = 16 * 1024;

    // A process that cannot be ended keeps open the standard error of the command that started it.
    private static readonly TimeSpan Complaints = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan CancelLimit = TimeSpan.FromSeconds(20);

    /// <summary>Runs the command to its end.</summary>
    /// <param name="arguments">Its command line.</param>
    /// <param name="death">What it means if the process dies without a message; goes into the error message.</param>
    /// <param name="take">Called with each line except errors, and its type. The element is valid during the call.</param>
    /// <param name="cancel">Asks it to end in good order (SIGTERM); if it does not, it is killed.</param>
    /// <param name="word">A line for its standard input, once available; null: nothing is written there.</param>
    /// <param name="program">The program; null: this one.</param>
    /// <param name="silence">Longest time between two lines; past it the process and all that it started are ended. Null: no limit.</param>
    /// <exception cref="TaskFailure">It failed: its own reason, or AgentDied.</exception>
    internal static async Task Run(
        IEnumerable<string> arguments,
        string death,
        Action<string, JsonElement> take,
        CancellationToken cancel,
        Task<string>? word = null,
        string? program = null,
        TimeSpan? silence = null
    )
    {
        ProcessStartInfo start = new(program ?? Environment.ProcessPath ?? "/proc/self/exe")
        {
            RedirectStandardInput = word is not null,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
        };
        foreach (string a in arguments)
            start.ArgumentList.Add(a);
        ChildLimits.Set(start);
        using Process child = Start(start);
        using CheckedProcess? held = CheckedProcess.TryOpen(child);
        ChildLimits.EndedFirst(held);
        Task<string> complaints = BoundedLineReader.Tail(child.StandardError.BaseStream, MostComplaints);
        using Watchdog watchdog = new(child, silence);
        BoundedLineReader lines = new(child.StandardOutput.BaseStream);
        await using CancellationTokenRegistration ending = cancel.Register(() => End(held));
        if (word is not null)
            _ = Say(child, word);
        bool summarized = false;
        ErrorLine? error = null;
        while (await lines.NextAsync().ConfigureAwait(false) is { } line)
        {
            watchdog.Heard();
            try
            {
                using JsonDocument document = JsonDocument.Parse(line);
                string type = document.RootElement.GetProperty("type").GetString() ?? "";
                if (type == "error")
                    error = document.RootElement.Deserialize(MessagesJson.Default.ErrorLine);
                else
                    take(type, document.RootElement);
                summarized |= type == "summary";
            }
            catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
            {
                // The line was cut off by the process's death, which is reported below.
            }
        }
        await child.WaitForExitAsync(CancellationToken.None).ConfigureAwait(false);
        if (summarized && child.ExitCode == ExitCode.Success)
            return;
        if (error is not null)
            throw new TaskFailure(error.Reason, error.Message, error.NeedsCare);
        await Task.WhenAny(complaints, Task.Delay(Complaints, CancellationToken.None)).ConfigureAwait(false);
        string said = complaints.IsCompletedSuccessfully ? complaints.Result.Trim() : "";
        string how = watchdog.Killed
            ? $"was silent for {silence!.Value.TotalSeconds:0} s, and the agent killed it"
            : $"ended with exit code {child.ExitCode}";
        throw new TaskFailure(
            Reasons.AgentDied,
            "the working process " + $"{how}{(said.Length > 0 ? ": " + said : "")}; {death}",
            needsCare: true
        );
    }

    private static Process Start(ProcessStartInfo start)
    {
        try
        {
            return Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new TaskFailure(Reasons.InternalError, $"the working process could not be started: {e.Message}");
        }
    }

    private static async Task Say(Process child, Task<string> word)
    {
        try
        {
            await child.StandardInput.WriteLineAsync(await word.ConfigureAwait(false)).ConfigureAwait(false);
            await child.StandardInput.FlushAsync().ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or InvalidOperationException or OperationCanceledException)
        {
            // The process has ended or is about to: it no longer needs the line.
        }
    }

    // SIGTERM ends it in good order. If it does not end, it is killed, which frees the guest too.
    private static void End(CheckedProcess? child)
    {
        child?.Signal(SIGTERM);
        _ = KillLater(child);
    }

    private static async Task KillLater(CheckedProcess? child)
    {
        await Task.Delay(CancelLimit).ConfigureAwait(false);
        child?.Signal(SIGKILL);
    }

    /// <summary>Ends a child that is silent for too long because it is stopped, frozen or starved.</summary>
    private sealed class Watchdog : IDisposable
    {
        private readonly Timer? _timer;
        private readonly TimeSpan? _silence;
        private volatile bool _killed;

        internal Watchdog(Process child, TimeSpan? silence)
        {
            _silence = silence;
            if (silence is { } limit)
                _timer = AgentThread.StartTimer("watchdog", () => Kill(child), failed: _ => { }, limit, Timeout.InfiniteTimeSpan);
        }

        internal bool Killed => _killed;

        internal void Heard() => _timer?.Change(_silence!.Value, Timeout.InfiniteTimeSpan);

        private void Kill(Process child)
        {
            try
            {
                _killed = true;
                // Together with the process that captures: while that one is stopped, it keeps QEMU's monitor to itself.
                child.Kill(entireProcessTree: true);
            }
            catch (Exception e) when (e is InvalidOperationException or AggregateException or System.ComponentModel.Win32Exception)
            {
                // The process has ended already.
            }
        }

        public void Dispose() => _timer?.Dispose();
    }
}
