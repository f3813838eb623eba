using Bgsnap.Linux;
using Bgsnap.Vocabulary;

namespace Bgsnap.Qemu.Vm;

/// <summary>
/// Refuses memory in which the kernel is merging equal pages (KSM): ksmd replaces a page table entry without keeping its userfaultfd
/// write-protect bit (replace_page() of mm/ksm.c), so that the kernel no longer announces later writes. QEMU's own background-snapshot is
/// affected as well.
/// </summary>
/// <remarks>
/// The alternative, to take the memory out of merging during the capture (MADV_UNMERGEABLE inside QEMU), gives every merged page a copy of
/// its own at once, and a node that depends on merged memory has no room for that. Pages that were merged before ksmd was stopped can be
/// protected like any other.
/// </remarks>
internal static class SamepageMerging
{
    /// <summary>The remedy, for messages.</summary>
    internal const string Remedy =
        "start the VM with -machine mem-merge=off (libvirt: <memoryBacking><nosharepages/>), "
        + "or stop ksmd on this node with `echo 0 > /sys/kernel/mm/ksm/run`, which keeps merged pages merged";

    /// <summary>Whether ksmd is looking for equal pages.</summary>
    internal static bool IsRunning => Read("run") == "1";

    /// <summary>Refuses a process whose pages may be merged during the capture.</summary>
    /// <exception cref="RefusedException">ksmd is running, and one of the process's mappings takes part.</exception>
    internal static void Refuse(ProcessEntry process)
    {
        if (IsRunning && MergeableBytes(process.At("smaps")) is > 0 and long bytes)
            throw new RefusedException(
                Reasons.SamepageMerging,
                $"the kernel is merging equal pages in {bytes >> 20} MiB of QEMU's memory (KSM), which drops write protection "
                    + $"silently; {Remedy}"
            );
    }

    /// <summary>How far ksmd has got, for <see cref="CheckSince"/>.</summary>
    internal static string Position => $"{Read("full_scans")}/{Read("pages_scanned")}";

    /// <summary>
    /// For an engine that cannot prove its copies (QEMU's own): fails the capture if ksmd has worked meanwhile and a mapping takes part.
    /// </summary>
    /// <exception cref="CaptureFailedException">Protection may have been lost.</exception>
    internal static void CheckSince(string position, ProcessEntry process)
    {
        if ((IsRunning || Position != position) && MergeableBytes(process.At("smaps")) > 0)
            throw new CaptureFailedException(
                Reasons.ProtectionLost,
                $"the kernel began to merge equal pages during the capture (KSM), which drops write protection silently; {Remedy}"
            );
    }

    /// <summary>Bytes of the mappings that take part in merging: their flags contain <c>mg</c>.</summary>
    internal static long MergeableBytes(string smaps)
    {
        long size = 0,
            mergeable = 0;
        foreach (string line in File.ReadLines(smaps))
        {
            if (line.StartsWith("Size:", StringComparison.Ordinal))
                size =
                    long.Parse(line.AsSpan("Size:".Length).Trim().TrimEnd("kB").Trim(), System.Globalization.CultureInfo.InvariantCulture)
                    << 10;
            else if (line.StartsWith("VmFlags:", StringComparison.Ordinal) && line.Split(' ').Contains("mg"))
                mergeable += size;
        }
        return mergeable;
    }

    private static string Read(string name)
    {
        try
        {
            return File.ReadAllText($"/sys/kernel/mm/ksm/{name}").Trim();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A kernel without KSM, or one that does not report this count.
            return "";
        }
    }
}
