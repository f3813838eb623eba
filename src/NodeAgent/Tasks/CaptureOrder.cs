using System.Globalization;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Engine.Capture;
using Bgsnap.Vocabulary;
using k8s.Models;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>What to capture, where to and how, and the capturing process's command line for it.</summary>
internal sealed record CaptureOrder
{
    /// <summary>QEMU's socket, as a path that the child can open, or QEMU's process if libvirt owns the monitor.</summary>
    internal required MonitorAddress Monitor { get; init; }

    /// <summary>The container that QEMU must run in.</summary>
    internal required string ContainerId { get; init; }

    /// <summary>The directory to create.</summary>
    internal required string Output { get; init; }

    /// <summary>How to capture; null: defaults.</summary>
    internal CaptureSpec? How { get; init; }

    /// <summary>The guest agent's socket, as a path that the child can open, or null.</summary>
    internal string? GuestAgent { get; init; }

    /// <summary>A file with the VM's Kubernetes objects, as a path that the child can open, or null.</summary>
    internal string? Objects { get; init; }

    /// <summary>Where to keep the disk content that the guest overwrites.</summary>
    internal Scratch? Scratch { get; init; }

    /// <summary>The command line of the capture. Options whose value is the command's own default are left out.</summary>
    internal IEnumerable<string> Arguments()
    {
        yield return "capture";
        yield return "--json";
        yield return Monitor.Argument;
        yield return "--container=" + ContainerId;
        yield return "--output=" + Output;
        yield return "--engine=" + (How?.Engine ?? "Auto").ToLowerInvariant();
        yield return "--compression=" + (How?.Compression ?? "None").ToLowerInvariant();
        // The storage takes its VolumeSnapshots while the guest is stopped.
        yield return "--max-downtime=" + (How?.MaxDowntime ?? (How?.DiskMethod == DiskCaptureMethod.VolumeSnapshot ? "10s" : "1s"));
        if (How?.BandwidthLimit is { } limit)
            yield return "--bandwidth-limit=" + Bytes(limit).ToString(CultureInfo.InvariantCulture);
        if (How?.Disks?.Select == "None")
            yield return "--disks=none";
        if (How?.Disks is { Select: "Named", Names: { } names })
            yield return "--disks=" + string.Join(',', names);
        if (Scratch?.Directory is { } directory)
            yield return "--scratch=" + directory;
        if (Scratch?.Limit is { } most)
            yield return "--scratch-limit=" + most.ToString(CultureInfo.InvariantCulture);
        if (How?.DiskMethod is { } method and not DiskCaptureMethod.Auto)
            yield return "--disk-method=" + Method(method);
        if (How?.EncryptedDisks == "StoreDecrypted")
            yield return "--decrypt-disks";
        if (GuestAgent is not null)
            yield return "--guest-agent=" + GuestAgent;
        if (How?.Quiesce is { } quiesce and not "IfAvailable")
            yield return "--quiesce=" + (quiesce == "Required" ? "required" : "never");
        if (How?.QuiesceTimeout is { } timeout && (GuestAgent is not null || Monitor.QmpSocket is null))
            yield return "--quiesce-timeout=" + timeout;
        if (How?.After == "Stop")
            yield return "--after=stop";
        if (Objects is not null)
            yield return "--objects=" + Objects;
    }

    private static string Method(string method) =>
        method switch
        {
            DiskCaptureMethod.CopyBeforeWrite => "copy-before-write",
            DiskCaptureMethod.Overlay => "overlay",
            DiskCaptureMethod.VolumeSnapshot => "volume-snapshot",
            _ => throw new TaskFailure(
                Reasons.BadTask,
                $"this agent does not know the disk method '{method}': upgrade it to the operator's version"
            ),
        };

    /// <summary>A Kubernetes quantity in bytes; the API server has checked its form.</summary>
    internal static long Bytes(string quantity)
    {
        try
        {
            decimal bytes = decimal.Ceiling(new ResourceQuantity(quantity).ToDecimal());
            if (bytes is >= 0 and <= long.MaxValue)
                return (long)bytes;
        }
        catch (Exception e) when (e is FormatException or ArgumentException or OverflowException or ArithmeticException) { }
        throw new TaskFailure(Reasons.BadQuantity, $"invalid quantity '{quantity}' (example: 200Mi)");
    }
}
