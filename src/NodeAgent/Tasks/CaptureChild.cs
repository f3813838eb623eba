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
    /// <param name="socket">QEMU's socket, as a path that the child can open.</param>
    /// <param name="containerId">The container that QEMU must run in.</param>
    /// <param name="output">The directory to make.</param>
    /// <param name="how">How.</param>
    /// <param name="guestAgent">The guest agent's socket, as a path that the child can open, or null.</param>
    /// <param name="progress">Called for each line of progress.</param>
    /// <param name="cancel">Ends the capture in good order; the guest is freed.</param>
    /// <exception cref="TaskFailure">It failed.</exception>
    internal static async Task<SummaryLine> Run(
        string socket, string containerId, string output, CaptureSpec? how, string? guestAgent, Action<ProgressLine> progress, CancellationToken cancel)
    {
        ProcessStartInfo start = new(Environment.ProcessPath ?? "/proc/self/exe") { RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
        foreach (string a in Arguments(socket, containerId, output, how, guestAgent)) start.ArgumentList.Add(a);
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

    /// <summary>The command line of the capture. What is the command's own default is not spelt out.</summary>
    internal static IEnumerable<string> Arguments(string socket, string containerId, string output, CaptureSpec? how, string? guestAgent = null)
    {
        yield return "capture";
        yield return "--json";
        yield return "--qmp=" + socket;
        yield return "--container=" + containerId;
        yield return "--output=" + output;
        yield return "--engine=" + (how?.Engine ?? "Auto").ToLowerInvariant();
        yield return "--compression=" + (how?.Compression ?? "None").ToLowerInvariant();
        // The storage takes its VolumeSnapshots while the guest waits.
        yield return "--max-downtime=" + (how?.MaxDowntime ?? (how?.DiskMethod == DiskCaptureMethod.VolumeSnapshot ? "10s" : "1s"));
        if (how?.BandwidthLimit is { } limit) yield return "--bandwidth-limit=" + Bytes(limit).ToString(CultureInfo.InvariantCulture);
        if (how?.Disks?.Select == "None") yield return "--disks=none";
        if (how?.Disks is { Select: "Named", Names: { } names }) yield return "--disks=" + string.Join(',', names);
        if (how?.DiskMethod is { } method and not DiskCaptureMethod.Auto) yield return "--disk-method=" + Method(method);
        if (guestAgent is not null) yield return "--guest-agent=" + guestAgent;
        if (how?.Quiesce is { } quiesce and not "IfAvailable") yield return "--quiesce=" + (quiesce == "Required" ? "required" : "never");
        if (how?.QuiesceTimeout is { } timeout && guestAgent is not null) yield return "--quiesce-timeout=" + timeout;
        if (how?.After == "Stop") yield return "--after=stop";
    }

    private static string Method(string method) => method switch
    {
        DiskCaptureMethod.CopyBeforeWrite => "copy-before-write",
        DiskCaptureMethod.Overlay => "overlay",
        DiskCaptureMethod.VolumeSnapshot => "volume-snapshot",
        _ => throw new TaskFailure("BadTask", $"'{method}' is no method of capturing disks that this agent knows: is it older than the operator?"),
    };

    /// <summary>A Kubernetes quantity in bytes; the API server has checked its form.</summary>
    internal static long Bytes(string quantity)
    {
        string number = quantity.TrimEnd('k', 'M', 'G', 'T', 'K', 'i');
        string unit = quantity[number.Length..];
        if (!decimal.TryParse(number, NumberStyles.AllowDecimalPoint | NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out decimal value))
            throw new TaskFailure("BadQuantity", $"'{quantity}' is not a quantity such as 200Mi");
        decimal factor = unit switch
        {
            "" => 1,
            "k" => 1e3m,
            "M" => 1e6m,
            "G" => 1e9m,
            "T" => 1e12m,
            "Ki" => 1L << 10,
            "Mi" => 1L << 20,
            "Gi" => 1L << 30,
            "Ti" => 1L << 40,
            _ => throw new TaskFailure("BadQuantity", $"'{quantity}' is not a quantity such as 200Mi"),
        };
        return (long)(value * factor);
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
