using System.ComponentModel;
using System.Globalization;
using System.Runtime.InteropServices;

namespace Bgsnap.Benchmarks;

/// <summary>What the kernel counts for a process: CPU time, huge pages, peak memory.</summary>
internal static unsafe partial class ProcessCounters
{
    private const int ChildrenOfOurs = -1; // RUSAGE_CHILDREN

    [StructLayout(LayoutKind.Sequential)]
    private struct TimeValue
    {
        internal long Seconds;
        internal long Fraction;

        internal readonly double In(double fractions) => Seconds + (Fraction / fractions);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Usage
    {
        internal TimeValue User;
        internal TimeValue System;
        private fixed long _rest[14];
    }

    /// <summary>CPU time of all our children that have ended, and of theirs.</summary>
    internal static double EndedChildrenCpuSeconds()
    {
        Usage usage;
        return GetUsage(ChildrenOfOurs, &usage) == 0
            ? usage.User.In(1e6) + usage.System.In(1e6)
            : throw new Win32Exception(Marshal.GetLastPInvokeError());
    }

    /// <summary>CPU time of QEMU's process, threads that have ended included, without that of its vCPUs.</summary>
    internal static double CpuSecondsWithoutVcpus(int pid)
    {
        // The CPU-time clock of a process: clock_getcpuclockid(3).
        TimeValue total;
        if (GetTime((~pid << 3) | 2, &total) != 0)
            throw new Win32Exception(Marshal.GetLastPInvokeError());
        double vcpus = 0;
        foreach (var task in Directory.EnumerateDirectories($"/proc/{pid}/task"))
        {
            if (File.ReadAllText(Path.Combine(task, "comm")).StartsWith("CPU ", StringComparison.Ordinal))
                vcpus += long.Parse(File.ReadAllText(Path.Combine(task, "schedstat")).Split(' ')[0], CultureInfo.InvariantCulture) / 1e9;
        }

        return total.In(1e9) - vcpus;
    }

    /// <summary>AnonHugePages of the mappings in a range.</summary>
    internal static long AnonymousHugeBytes(int pid, long start, long length)
    {
        long kibibytes = 0;
        var inside = false;
        foreach (var line in File.ReadLines($"/proc/{pid}/smaps"))
        {
            var space = line.IndexOf(' ', StringComparison.Ordinal);
            var dash = line.IndexOf('-', StringComparison.Ordinal);
            if (
                dash > 0
                && dash < space
                && ulong.TryParse(line.AsSpan(0, dash), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var from)
                && ulong.TryParse(
                    line.AsSpan(dash + 1, space - dash - 1),
                    NumberStyles.AllowHexSpecifier,
                    CultureInfo.InvariantCulture,
                    out var to
                )
            )
            {
                inside = from < (ulong)(start + length) && to > (ulong)start;
            }
            else if (inside && line.StartsWith("AnonHugePages:", StringComparison.Ordinal))
            {
                kibibytes += Kibibytes(line);
            }
        }

        return kibibytes << 10;
    }

    /// <summary>The most memory that a process has had so far; null when it is gone.</summary>
    internal static long? PeakBytes(int pid)
    {
        try
        {
            foreach (var line in File.ReadLines($"/proc/{pid}/status"))
            {
                if (line.StartsWith("VmHWM:", StringComparison.Ordinal))
                    return Kibibytes(line) << 10;
            }
        }
        catch (IOException)
        {
            // It has ended.
        }

        return null;
    }

    /// <summary>A child of the process, whichever thread made it; null when there is none.</summary>
    internal static int? ChildOf(int pid)
    {
        try
        {
            foreach (var task in Directory.EnumerateDirectories($"/proc/{pid}/task"))
            {
                var children = File.ReadAllText(Path.Combine(task, "children")).Split(' ', StringSplitOptions.RemoveEmptyEntries);
                if (children.Length > 0)
                    return int.Parse(children[0], CultureInfo.InvariantCulture);
            }
        }
        catch (IOException)
        {
            // It has ended.
        }

        return null;
    }

    /// <summary>Writes back everything, so that a capture does not pay for what was before it.</summary>
    [LibraryImport("libc", EntryPoint = "sync")]
    internal static partial void WriteBackAll();

    private static long Kibibytes(string line) =>
        long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);

    [LibraryImport("libc", EntryPoint = "getrusage", SetLastError = true)]
    private static partial int GetUsage(int who, Usage* usage);

    [LibraryImport("libc", EntryPoint = "clock_gettime", SetLastError = true)]
    private static partial int GetTime(int clock, TimeValue* time);
}
