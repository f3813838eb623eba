using Bgsnap.Engine.Capture;

namespace Bgsnap.Benchmarks;

/// <summary>Markdown of the samples: a table per case, and what the targets say to it.</summary>
internal static class Report
{
    private const double MiB = 1 << 20,
        GiB = 1 << 30;

    /// <summary>Memory of the agent besides its stage.</summary>
    private const double MemoryAllowance = 40 * MiB;

    private sealed record Column(string Title, Func<Sample, double?> Value, string Format, double Unit = 1);

    private static readonly Column[] Columns =
    [
        new("downtime, ms", s => s.DowntimeMilliseconds, "0.0"),
        new("protection window, s", s => s.WindowSeconds, "0.00"),
        new("total, s", s => s.TotalSeconds, "0.00"),
        new("rate before, writes/s", s => s.RateBefore, "0"),
        new("worst second, % of before", s => s.WorstSecondShare, "0", 0.01),
        new("longest stall, ms", s => s.LongestStallMilliseconds, "0.0"),
        new("longest fault, ms", s => s.LongestFaultMilliseconds, "0.0"),
        new("stall without capture, ms", s => s.StallBeforeMilliseconds, "0.0"),
        new("write p99, µs", s => s.P99Microseconds, "0.0"),
        new("p99 without capture, µs", s => s.P99BeforeMicroseconds, "0.0"),
        new("stored, MiB", s => s.StoredBytes, "0", MiB),
        new("huge pages before, MiB", s => s.HugeBytesBefore, "0", MiB),
        new("huge pages kept, %", s => s.HugeKept, "0.0", 0.01),
        new("CPU, s", s => s.CpuSeconds, "0.00"),
        new("peak memory, MiB", s => s.PeakMemoryBytes, "0", MiB),
    ];

    internal static IEnumerable<string> Cases(IReadOnlyList<Sample> samples)
    {
        foreach (var @case in BenchmarkCase.All)
        {
            var peers = Peer.All.Where(p => samples.Any(s => s.Case == @case.Name && s.Peer == p.Name)).ToArray();
            if (peers.Length == 0)
                continue;
            yield return $"## {@case.Name}: {@case.What}";
            yield return "";
            yield return $"| | {string.Join(" | ", peers.Select(p => p.Name))} |";
            yield return $"|---|{string.Concat(Enumerable.Repeat("---|", peers.Length))}";
            foreach (var column in Columns)
                yield return $"| {column.Title} | {string.Join(" | ", peers.Select(p => Cell(column, Of(samples, @case.Name, p.Name))))} |";
            yield return "| captures measured | "
                + $"{string.Join(" | ", peers.Select(p => $"{Of(samples, @case.Name, p.Name).Count(s => s.TotalSeconds is not null)}"))} "
                + "|";
            yield return "";
            foreach (var sample in samples.Where(s => s.Case == @case.Name && s.Note is not null))
                yield return $"- {sample.Peer}, {(sample.Round == 0 ? "warm-up" : $"round {sample.Round}")}: {sample.Note}";
            yield return "";
        }
    }

    internal static IEnumerable<string> Targets(IReadOnlyList<Sample> samples)
    {
        yield return "## Targets";
        yield return "";
        yield return "Comparisons with QEMU are between medians; absolute limits are for the worst round.";
        yield return "";
        yield return "| case | target | agent | limit | |";
        yield return "|---|---|---|---|---|";
        foreach (var name in samples.Select(s => s.Case).Distinct())
        {
            var (agent, qemu) = (Of(samples, name, "agent"), Of(samples, name, "qemu"));
            yield return Line(
                name,
                "total ≤ 1/8 of QEMU's, s",
                Median(agent, s => s.TotalSeconds),
                Median(qemu, s => s.TotalSeconds) / 8,
                "0.00"
            );
            yield return Line(
                name,
                "downtime ≤ QEMU's, ms",
                Median(agent, s => s.DowntimeMilliseconds),
                Median(qemu, s => s.DowntimeMilliseconds),
                "0.0"
            );
            yield return Line(
                name,
                "longest stall ≤ QEMU's, ms",
                Median(agent, s => s.LongestStallMilliseconds),
                Median(qemu, s => s.LongestStallMilliseconds),
                "0.0"
            );
            yield return Line(
                name,
                "no second under 10 % of the rate before",
                agent.Min(s => s.WorstSecondShare) * 100,
                10,
                "0",
                least: true
            );
            yield return Line(name, "≥ 90 % of huge pages kept", agent.Min(s => s.HugeKept) * 100, 90, "0.0", least: true);
            yield return Line(
                name,
                "stored ≤ QEMU's stream, MiB",
                Median(agent, s => s.StoredBytes) / MiB,
                Median(qemu, s => s.StoredBytes) / MiB,
                "0.0"
            );
            yield return Line(
                name,
                "memory ≤ stage + 40 MiB, MiB",
                agent.Max(s => s.PeakMemoryBytes) / MiB,
                (CaptureOptions.DefaultStageBytes + MemoryAllowance) / MiB,
                "0.0"
            );
        }
    }

    private static List<Sample> Of(IReadOnlyList<Sample> samples, string @case, string peer) =>
        [.. samples.Where(s => s.Case == @case && s.Peer == peer && s.Round > 0)];

    private static string Line(string @case, string target, double? value, double? limit, string format, bool least = false)
    {
        var verdict =
            value is null || limit is null ? "–"
            : (least ? value >= limit : value <= limit) ? "met"
            : "**missed**";
        return $"| {@case} | {target} | {Numbers.Text(value, format)} | {(least ? "≥" : "≤")} {Numbers.Text(limit, format)} | {verdict} |";
    }

    private static double? Median(List<Sample> samples, Func<Sample, double?> value) => Numbers.Median(samples.Select(value));

    private static string Cell(Column column, List<Sample> samples) =>
        Numbers.Cell(samples.Select(s => column.Value(s) / column.Unit), column.Format);
}
