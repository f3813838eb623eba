using System.Globalization;
using System.Text.Json;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Cli;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>
/// Runs <c>capture --json</c> in a process of its own, whose death sets the guest free.
/// </summary>
internal static class CaptureChild
{
    /// <summary>Captures, and returns the last line.</summary>
    /// <param name="socket">QEMU's socket, as a path that the child can open.</param>
    /// <param name="containerId">The container that QEMU must run in.</param>
    /// <param name="output">The directory to make.</param>
    /// <param name="how">How.</param>
    /// <param name="guestAgent">The guest agent's socket, as a path that the child can open, or null.</param>
    /// <param name="progress">Called for each line of progress.</param>
    /// <param name="cancel">Ends the capture in good order; the guest is freed.</param>
    /// <param name="word">What releases a guest that is held for VolumeSnapshots.</param>
    /// <exception cref="TaskFailure">It failed.</exception>
    internal static async Task<SummaryLine> Run(
        string socket, string containerId, string output, CaptureSpec? how, string? guestAgent, Action<ProgressLine> progress, CancellationToken cancel, Task<string>? word = null)
    {
        SummaryLine? summary = null;
        await AgentChild.Run(Arguments(socket, containerId, output, how, guestAgent), "the kernel has set the guest free", (type, line) =>
        {
            if (type == "progress") progress(line.Deserialize(MessagesJson.Default.ProgressLine)!);
            else if (type == "summary") summary = line.Deserialize(MessagesJson.Default.SummaryLine);
        }, cancel, word).ConfigureAwait(false);
        return summary ?? throw new TaskFailure("InternalError", "the capture ended without a summary");
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
}
