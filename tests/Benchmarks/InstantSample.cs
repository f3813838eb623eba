namespace Bgsnap.Benchmarks;

/// <summary>One restore of <see cref="InstantBenchmark"/>. Seconds from the command on, but for <see cref="AfterDevices"/>.</summary>
/// <param name="MemoryMiB">RAM of the guest.</param>
/// <param name="Guest">What it does.</param>
/// <param name="Cache">Where the snapshot's files are: hot or cold.</param>
/// <param name="Way">How it was restored.</param>
/// <param name="Round">0: does not count.</param>
/// <param name="Resume">QEMU's event.</param>
/// <param name="AfterDevices">Milliseconds from handing QEMU its devices until the agent saw the guest run; null where RAM goes the same
/// way.</param>
/// <param name="FirstOutput">The guest's first line.</param>
/// <param name="BackAtRate">The guest does 90 % of what it did before; null: not within the time.</param>
/// <param name="BestRate">The most that it did in half a second since, in per cent of that.</param>
/// <param name="Resident">All of memory is there.</param>
/// <param name="Faults">How often QEMU waited for memory; null where it does not.</param>
/// <param name="FaultP99">Milliseconds.</param>
internal sealed record InstantSample(
    int MemoryMiB,
    string Guest,
    string Cache,
    string Way,
    int Round,
    double? Resume,
    double? AfterDevices,
    double? FirstOutput,
    double? BackAtRate,
    double? BestRate,
    double? Resident,
    long? Faults,
    double? FaultP99
)
{
    /// <summary>Why there is no measurement; null: there is one.</summary>
    internal string? Impossible { get; init; }

    /// <summary>A row for each kind of restore: median (least–most).</summary>
    internal static IEnumerable<string> Table(IEnumerable<InstantSample> samples)
    {
        yield return "| RAM, MiB | guest | files | way | RESUME, s | after the devices were sent, ms | first output, s | "
            + "90 % of its rate, s | best half second, % | all memory there, s | faults | fault p99, ms |";
        yield return "|---|---|---|---|---|---|---|---|---|---|---|---|";
        foreach (var group in samples.GroupBy(s => (s.MemoryMiB, s.Guest, s.Cache, s.Way)))
        {
            var (memory, guest, cache, way) = group.Key;
            if (group.FirstOrDefault(s => s.Impossible is not null) is { } impossible)
            {
                yield return $"| {memory} | {guest} | {cache} | {way} | not measured: {impossible.Impossible} | | | | | | | |";
                continue;
            }

            yield return $"| {memory} | {guest} | {cache} | {way} | {Cell(s => s.Resume, "0.000")} | {Cell(s => s.AfterDevices, "0.0")} | "
                + $"{Cell(s => s.FirstOutput, "0.000")} | {Rate()} | {Cell(s => s.BestRate, "0")} | {Cell(s => s.Resident, "0.00")} | "
                + $"{Cell(s => s.Faults, "0")} | {Cell(s => s.FaultP99, "0.0")} |";

            string Cell(Func<InstantSample, double?> value, string format) => Numbers.Cell(group.Select(value), format);

            string Rate()
            {
                // A guest that does not tell its rate has not missed it.
                var missed = group.Count(s => s.BackAtRate is null && s.BestRate is not null);
                return Cell(s => s.BackAtRate, "0.00") + (missed > 0 ? $", {missed} of {group.Count()} not" : "");
            }
        }
    }
}
