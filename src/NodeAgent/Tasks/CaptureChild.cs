using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Cli;
using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>
/// Runs <c>capture --json</c> in a process of its own: whatever happens to it, the agent lives, and its death sets the guest free.
/// </summary>
internal static class CaptureChild
{
    private const int SIGTERM = 15, SIGKILL = 9;
    private static readonly TimeSpan CancelLimit = TimeSpan.FromSeconds(20);

    /// <summary>Captures, and returns the last line.</summary>
    /// <param name="order">What, where to and how.</param>
    /// <param name="progress">Called for each line of progress.</param>
    /// <param name="cancel">Ends the capture in good order; the guest is freed.</param>
    /// <exception cref="TaskFailure">It failed.</exception>
    internal static async Task<SummaryLine> Run(CaptureOrder order, Action<ProgressLine> progress, CancellationToken cancel)
    {
        ProcessStartInfo start = new(Environment.ProcessPath ?? "/proc/self/exe") { RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
        foreach (string a in order.Arguments()) start.ArgumentList.Add(a);
        using Process child = Process.Start(start) ?? throw new TaskFailure("InternalError", "the capturing process could not be started");
        Task<string> complaints = child.StandardError.ReadToEndAsync(CancellationToken.None);
        await using CancellationTokenRegistration ending = cancel.Register(() => End(child));
        SummaryLine? summary = null;
        ErrorLine? error = null;
        while (await child.StandardOutput.ReadLineAsync(CancellationToken.None).ConfigureAwait(false) is { } line)
        {
            try
            {
                using JsonDocument document = JsonDocument.Parse(line);
                switch (document.RootElement.GetProperty("type").GetString())
                {
                    case "progress":
                        progress(document.RootElement.Deserialize(MessagesJson.Default.ProgressLine)!);
                        break;
                    case "summary":
                        summary = document.RootElement.Deserialize(MessagesJson.Default.SummaryLine);
                        break;
                    case "error":
                        error = document.RootElement.Deserialize(MessagesJson.Default.ErrorLine);
                        break;
                }
            }
            catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
            {
                // Cut off by its death; what it died of is told below.
            }
        }
        await child.WaitForExitAsync(CancellationToken.None).ConfigureAwait(false);
        if (summary is not null && child.ExitCode == ExitCode.Success) return summary;
        if (error is not null) throw new TaskFailure(error.Reason, error.Message);
        string said = (await complaints.ConfigureAwait(false)).Trim();
        throw new TaskFailure("AgentDied", $"the capturing process ended with exit code {child.ExitCode}{(said.Length > 0 ? ": " + said : "")}; the kernel has set the guest free");
    }

    // SIGTERM ends it in good order. One that does not end is killed, which frees the guest too.
    private static void End(Process child)
    {
        try
        {
            int pid = child.Id;
            _ = Libc.Kill(pid, SIGTERM);
            _ = KillLater(child, pid);
        }
        catch (InvalidOperationException)
        {
            // It has ended already.
        }
    }

    private static async Task KillLater(Process child, int pid)
    {
        await Task.Delay(CancelLimit).ConfigureAwait(false);
        if (!HasExited(child)) _ = Libc.Kill(pid, SIGKILL);
    }

    private static bool HasExited(Process child)
    {
        try
        {
            return child.HasExited;
        }
        catch (InvalidOperationException)
        {
            return true; // disposed
        }
    }
}
