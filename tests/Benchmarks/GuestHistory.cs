using System.Diagnostics;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Benchmarks;

/// <summary>What the guest reported, as a function of the host's time (<see cref="Stopwatch.GetTimestamp"/>).</summary>
internal sealed class GuestHistory(IReadOnlyList<GuestReport> reports, IReadOnlyList<LatencyReport> latencies)
{
    internal static long After(long moment, double seconds) => moment + (long)(seconds * Stopwatch.Frequency);

    internal static double Seconds(long from, long to) => (to - from) / (double)Stopwatch.Frequency;

    internal long CorruptPages => reports[^1].Corrupt;

    /// <summary>Writes a second; null for a guest that writes nothing.</summary>
    internal double? Rate(long from, long to)
    {
        var writes = WritesAt(to) - WritesAt(from);
        return writes > 0 ? writes / Seconds(from, to) : null;
    }

    /// <summary>The fewest writes in any second of the interval, wherever that second begins.</summary>
    internal double WorstSecond(long from, long to)
    {
        // Between reports the count is a straight line: the minimum begins or ends at a report, or at an end of the interval.
        var last = After(to, -1);
        return ((IEnumerable<long>)[from, last, .. reports.Select(r => r.At), .. reports.Select(r => After(r.At, -1))])
            .Where(begin => begin >= from && begin <= last)
            .Min(begin => WritesAt(After(begin, 1)) - WritesAt(begin));
    }

    /// <summary>
    /// The longest stall, milliseconds, of the ticks that overlap the interval and of the one after: a stall is reported
    /// in the tick in which it ends.
    /// </summary>
    internal double? LongestStall(long from, long to)
    {
        double? longest = null;
        for (var i = 1; i < reports.Count; i++)
        {
            if (reports[i].At <= from)
                continue;
            longest = Math.Max(longest ?? 0, reports[i].MaxStall.TotalMilliseconds);
            if (reports[i - 1].At > to)
                break;
        }

        return longest > 0 ? longest : null;
    }

    /// <summary>
    /// The highest p99, microseconds, among the guest's seconds that overlap the interval, and the writes it left out in them.
    /// </summary>
    internal (double? P99, double? Skipped) Latency(long from, long to)
    {
        double? p99 = null,
            skipped = null;
        for (var i = 1; i < latencies.Count && latencies[i - 1].At <= to; i++)
        {
            if (latencies[i].At <= from)
                continue;
            p99 = Math.Max(p99 ?? 0, latencies[i].P99.TotalMicroseconds);
            skipped = (skipped ?? 0) + latencies[i].Skipped;
        }

        return (p99, skipped);
    }

    private double WritesAt(long moment)
    {
        int low = 0,
            high = reports.Count - 1;
        if (high < 1 || moment < reports[0].At || moment > reports[high].At)
            throw new InvalidOperationException("The guest did not report on the whole interval.");
        while (high - low > 1)
        {
            var middle = (low + high) / 2;
            if (reports[middle].At <= moment)
                low = middle;
            else
                high = middle;
        }

        var (before, after) = (reports[low], reports[high]);
        var share = after.At > before.At ? (moment - before.At) / (double)(after.At - before.At) : 0;
        return before.Writes + (share * (after.Writes - before.Writes));
    }
}
