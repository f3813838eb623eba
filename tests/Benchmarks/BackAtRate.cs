using System.Diagnostics;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Benchmarks;

/// <summary>When a restored guest does again what it did before it was captured.</summary>
internal static class BackAtRate
{
    private const double Share = 0.9,
        Window = 0.5;

    /// <summary>The first report from which on the guest did, over half a second, 90 % of its former rate; null: none so far.</summary>
    internal static long? Find(IReadOnlyList<GuestReport> reports, double former)
    {
        for (int from = 0, to = 0; from < reports.Count; from++)
        {
            while (to < reports.Count && GuestHistory.Seconds(reports[from].At, reports[to].At) < Window)
                to++;
            if (to == reports.Count)
                return null;
            if ((reports[to].Writes - reports[from].Writes) / GuestHistory.Seconds(reports[from].At, reports[to].At) >= Share * former)
                return reports[from].At;
        }

        return null;
    }

    /// <summary>The most that the guest did in half a second, as a share of its former rate.</summary>
    internal static double? Best(IReadOnlyList<GuestReport> reports, double former)
    {
        double? best = null;
        for (int from = 0, to = 0; from < reports.Count; from++)
        {
            while (to < reports.Count && GuestHistory.Seconds(reports[from].At, reports[to].At) < Window)
                to++;
            if (to == reports.Count)
                break;
            best = Math.Max(
                best ?? 0,
                (reports[to].Writes - reports[from].Writes) / GuestHistory.Seconds(reports[from].At, reports[to].At) / former
            );
        }

        return best;
    }

    /// <summary>Waits for it; null: not within the time.</summary>
    internal static async Task<long?> WaitAsync(VirtualMachine machine, double former, TimeSpan patience)
    {
        for (var began = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(began) < patience; await Task.Delay(50))
        {
            if (Find(machine.Serial.Reports, former) is { } at)
                return at;
        }

        return null;
    }
}
