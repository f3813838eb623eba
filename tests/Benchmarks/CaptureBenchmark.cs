using System.Diagnostics;
using Bgsnap.Linux.Tests.Harness;
using QmpEvent = Bgsnap.Qemu.Qmp.QmpEvent;

namespace Bgsnap.Benchmarks;

/// <summary>
/// Runs the peers of a case, round by round. Each has a machine of its own, paused while another is measured, and gets a new
/// one when a capture has taken its huge pages: what one capture does to a guest must not slow the next.
/// </summary>
internal sealed class CaptureBenchmark(BenchmarkCase @case, IReadOnlyList<Peer> peers, QemuVersion version, string output)
    : IAsyncDisposable
{
    private const double SettleSeconds = 1,
        BeforeSeconds = 3,
        AfterSeconds = 2;
    private const double RateBack = 0.95,
        HugePagesBack = 0.9;
    private static readonly TimeSpan RecoveryLimit = TimeSpan.FromSeconds(30);
    private readonly Dictionary<Peer, BenchmarkMachine> _machines = [];

    internal async Task<List<Sample>> RunAsync(int rounds)
    {
        List<Sample> samples = [];
        for (var round = 0; round <= rounds; round++)
        {
            foreach (var peer in round % 2 == 0 ? peers : [.. peers.Reverse()])
            {
                Sample sample;
                try
                {
                    sample = await MeasureAsync(peer, round);
                }
                catch (Exception e) when (e is not OutOfMemoryException)
                {
                    // One peer that cannot do a case is a result; the machine it leaves behind is not to be trusted.
                    sample = new Sample
                    {
                        Case = @case.Name,
                        Peer = peer.Name,
                        Round = round,
                        Note = e.Message.Split('\n')[0],
                    };
                    await ReplaceAsync(peer);
                }

                samples.Add(sample);
                Console.Error.WriteLine(Progress(sample));
            }
        }

        return samples;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var peer in _machines.Keys)
            await ReplaceAsync(peer);
    }

    private async Task<Sample> MeasureAsync(Peer peer, int round)
    {
        var machine = await MachineAsync(peer);
        var path = Path.Combine(output, $"{@case.Name}-{peer.Name}-{round}");
        Delete(path);
        ProcessCounters.WriteBackAll();
        var hugeBefore = machine.HugeBytes();
        await machine.Machine.ContinueVcpusAsync();
        var note = await RecoverAsync(machine);

        List<QmpEvent> events = [];
        _ = machine.Observer.TakeEvents();
        var childrenCpu = ProcessCounters.EndedChildrenCpuSeconds();
        var qemuCpu = ProcessCounters.CpuSecondsWithoutVcpus(machine.Machine.Pid);
        var start = Stopwatch.GetTimestamp();
        var result = await peer.CaptureAsync(machine, path, events);
        var end = Stopwatch.GetTimestamp();
        qemuCpu = ProcessCounters.CpuSecondsWithoutVcpus(machine.Machine.Pid) - qemuCpu;
        childrenCpu = ProcessCounters.EndedChildrenCpuSeconds() - childrenCpu;

        var until = GuestHistory.After(end, AfterSeconds);
        await machine.ReportedAsync(until, "report after the capture");
        await machine.Machine.StopVcpusAsync();
        var hugeAfter = machine.HugeBytes();
        Delete(path);

        var history = machine.History();
        var beforeAt = GuestHistory.After(start, -BeforeSeconds);
        var before = history.Rate(beforeAt, start);
        if (history.CorruptPages > 0)
            note = $"{note} THE GUEST FOUND {history.CorruptPages} CORRUPT PAGES".Trim();
        var latency = history.Latency(start, end);
        return new Sample
        {
            Case = @case.Name,
            Peer = peer.Name,
            Round = round,
            DowntimeMilliseconds = Downtime(events),
            WindowSeconds = result.WindowSeconds,
            TotalSeconds = GuestHistory.Seconds(start, end),
            RateBefore = before,
            WorstSecondShare = before is { } rate ? history.WorstSecond(start, until) / rate : null,
            LongestStallMilliseconds = history.LongestStall(start, end),
            StallBeforeMilliseconds = history.LongestStall(
                beforeAt,
                GuestHistory.After(start, -2 * BenchmarkCase.TickMilliseconds / 1000.0)
            ),
            P99Microseconds = latency.P99,
            SkippedWrites = latency.Skipped,
            P99BeforeMicroseconds = history.Latency(beforeAt, GuestHistory.After(start, -1)).P99,
            StoredBytes = result.StoredBytes,
            HugeBytesBefore = hugeBefore,
            HugeBytesAfter = hugeAfter,
            CpuSeconds = childrenCpu + qemuCpu,
            AgentCpuSeconds = peer is AgentPeer ? childrenCpu : null,
            PeakMemoryBytes = result.PeakMemoryBytes,
            Faults = result.Faults,
            LongestFaultMilliseconds = result.LongestFaultMilliseconds,
            CorruptPages = history.CorruptPages,
            Timeline = result.Timeline,
            Note = note,
        };
    }

    /// <summary>Waits until the guest runs as it did before its first capture.</summary>
    private static async Task<string?> RecoverAsync(BenchmarkMachine machine)
    {
        var began = Stopwatch.GetTimestamp();
        await machine.RunAsync(SettleSeconds);
        double? rate = null;
        do
        {
            var from = machine.Machine.LatestReport!.At;
            await machine.RunAsync(BeforeSeconds);
            rate = machine.History().Rate(from, machine.Machine.LatestReport!.At);
            machine.FirstRate ??= rate;
            if (rate is null || rate >= RateBack * machine.FirstRate)
                return null;
        } while (Stopwatch.GetElapsedTime(began) < RecoveryLimit);
        return $"the guest came back to {rate / machine.FirstRate:0 %} of its first rate only";
    }

    private static double? Downtime(List<QmpEvent> events)
    {
        var stop = events.FindIndex(e => e.Name == "STOP");
        var resume = stop < 0 ? -1 : events.FindIndex(stop, e => e.Name == "RESUME");
        return resume < 0 ? null : (events[resume].Timestamp - events[stop].Timestamp) / 1e3;
    }

    private async Task<BenchmarkMachine> MachineAsync(Peer peer)
    {
        if (_machines.TryGetValue(peer, out var machine) && machine.HugeBytes() < HugePagesBack * machine.HugeBytesAtStart)
            await ReplaceAsync(peer);
        if (!_machines.TryGetValue(peer, out machine))
            _machines[peer] = machine = await BenchmarkMachine.StartAsync(@case.Options(version));
        return machine;
    }

    private async Task ReplaceAsync(Peer peer)
    {
        if (_machines.Remove(peer, out var machine))
            await machine.DisposeAsync();
    }

    private static void Delete(string path)
    {
        if (Directory.Exists(path))
            Directory.Delete(path, recursive: true);
        File.Delete(path);
    }

    private static string Progress(Sample sample) =>
        $"{sample.Case} {sample.Peer} round {sample.Round}: total {sample.TotalSeconds:0.00} s, downtime "
        + $"{sample.DowntimeMilliseconds:0.0} ms, "
        + $"worst second {sample.WorstSecondShare:0 %}, stall {sample.LongestStallMilliseconds:0.0} ms {sample.Note}";
}
