using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Benchmarks;

/// <summary>
/// How soon a guest is back, by every way: instant, instant with a recorded start, eager, our stream, and QEMU loading an exported stream
/// by itself. The guest checks and changes its memory at full speed; half of its RAM is noise, the rest mostly zero.
/// </summary>
internal sealed class InstantBenchmark(string folder, QemuVersion version, RamKind ram)
{
    private const string Instant = "instant", Recorded = "instant, recorded start", Eager = "eager", Stream = "stream", Cat = "QEMU by itself";
    private static readonly string[] Ways = [Instant, Recorded, Eager, Stream, Cat];
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(5);

    /// <summary>Times are seconds from the command on.</summary>
    private sealed record Sample(int MemoryMiB, string Way, int Round, double Resume, double FirstOutput, double Resident, long Faults, double FaultP99Milliseconds);

    internal static Command Command()
    {
        Option<int[]> sizes = new("--memory") { HelpName = "MIB,...", Description = "Sizes of the guests", DefaultValueFactory = _ => [2048, 6144], CustomParser = r => [.. r.Tokens[0].Value.Split(',').Select(t => int.Parse(t, CultureInfo.InvariantCulture))] };
        Option<int> rounds = new("--rounds") { HelpName = "N", Description = "Rounds that count, after one that does not", DefaultValueFactory = _ => 5 };
        Option<string> output = new("--output") { HelpName = "DIR", Description = "Where the snapshot and the stream are written, and deleted again", DefaultValueFactory = _ => Path.Combine(TestFiles.Out, "bench") };
        Option<string?> json = new("--json") { HelpName = "FILE", Description = "Every single measurement" };
        Option<string> qemu = new("--qemu") { HelpName = "system|10", Description = "Which QEMU", DefaultValueFactory = _ => "system" };
        Option<string> ram = new("--ram") { HelpName = "anonymous|memfd", Description = "What the guest's memory is", DefaultValueFactory = _ => "anonymous" };
        qemu.AcceptOnlyFromAmong("system", "10");
        ram.AcceptOnlyFromAmong("anonymous", "memfd");
        Command command = new("instant", "How soon a guest is back, by every way of restoring; needs root.") { sizes, rounds, output, json, qemu, ram };
        command.SetAction(async (parsed, cancellation) =>
        {
            InstantBenchmark benchmark = new(
                Directory.CreateDirectory(parsed.GetValue(output)!).FullName,
                parsed.GetValue(qemu) == "10" ? QemuVersion.Unpacked10 : QemuVersion.System,
                parsed.GetValue(ram) == "memfd" ? RamKind.Memfd : RamKind.Anonymous);
            List<Sample> samples = [];
            foreach (var size in parsed.GetValue(sizes)!)
                samples.AddRange(await benchmark.RunAsync(size, parsed.GetValue(rounds)));
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"# Instant restore\n\nMedian (least–most) of {parsed.GetValue(rounds)} rounds after one warm-up; {RuntimeInformation.OSDescription}, {Environment.ProcessorCount} CPUs, QEMU {parsed.GetValue(qemu)} (TCG), {parsed.GetValue(ram)} memory, half of it noise, files in the page cache. Seconds from the command on.\n"));
            foreach (var line in Table(samples))
                Console.WriteLine(line);
            if (parsed.GetValue(json) is { } file)
                await File.WriteAllTextAsync(file, JsonSerializer.Serialize(samples, JsonOptions.Indented), cancellation);
        });
        return command;
    }

    private static IEnumerable<string> Table(IReadOnlyList<Sample> samples)
    {
        yield return "| RAM, MiB | way | RESUME, s | first output, s | all memory there, s | faults | fault p99, ms |";
        yield return "|---|---|---|---|---|---|---|";
        foreach (var group in samples.GroupBy(s => (s.MemoryMiB, s.Way)))
        {
            yield return $"| {group.Key.MemoryMiB} | {group.Key.Way} | {Cell(s => s.Resume, "0.000")} | {Cell(s => s.FirstOutput, "0.000")} | {Cell(s => s.Resident, "0.00")} | {Cell(s => s.Faults, "0")} | {Cell(s => s.FaultP99Milliseconds, "0.0")} |";
            string Cell(Func<Sample, double> value, string format) => Numbers.Cell(group.Select(s => (double?)value(s)), format);
        }
    }

    private string Snapshot => Path.Combine(folder, "instant");

    private string Exported => Path.Combine(folder, "instant.stream");

    private VirtualMachineOptions Machine(int memoryMiB) => new()
    {
        Version = version,
        Ram = ram,
        MemoryMiB = memoryMiB,
        Guest = new LinuxGuest { Mode = "count", MiB = memoryMiB / 2, Fill = "random", TickMilliseconds = 20 },
        StartTimeout = Patience,
    };

    private async Task<List<Sample>> RunAsync(int memoryMiB, int rounds)
    {
        List<Sample> samples = [];
        try
        {
            await TakeAsync(memoryMiB);
            for (var round = 0; round <= rounds; round++)
            {
                // In turns, so that what the machine does beside falls on all; the recorded start is that of the round's first.
                File.Delete(Path.Combine(Snapshot, "start-order"));
                foreach (var way in Ways)
                {
                    var sample = await RestoreAsync(memoryMiB, way, round);
                    Console.Error.WriteLine(sample);
                    if (round > 0)
                        samples.Add(sample);
                }
            }

            return samples;
        }
        finally
        {
            File.Delete(Exported);
            Delete(Snapshot);
        }
    }

    private async Task TakeAsync(int memoryMiB)
    {
        Delete(Snapshot);
        await using var source = await VirtualMachine.StartAsync(Machine(memoryMiB));
        await source.WaitForMoreTicksAsync(3, Patience);
        await AgentAsync("capture", "--qmp", source.QmpSocket, "--output", Snapshot);
        await AgentAsync("export", Snapshot, "--output", Exported);
    }

    private async Task<Sample> RestoreAsync(int memoryMiB, string way, int round)
    {
        await using var target = await VirtualMachine.StartAsync(Machine(memoryMiB) with { Incoming = "defer" });
        var began = Stopwatch.GetTimestamp();
        var resumed = target.Qmp.WaitForEventAsync("RESUME", Patience);
        string? output = null;
        if (way == Cat)
            await target.Qmp.ExecuteAsync("migrate-incoming", new JsonObject { ["uri"] = $"exec:cat {Exported}" });
        var agent = way == Cat ? null : AgentAsync("restore", Snapshot, "--qmp", target.QmpSocket, "--json", "--keep-small-pages", $"--mode={(way == Recorded ? Instant : way)}");
        if (agent is not null && await Task.WhenAny(agent, resumed) == agent)
            await agent; // says what went wrong
        var resume = Seconds((await resumed).At);
        while (target.Serial.Reports.Count == 0)
            await Task.Delay(1);
        var first = Seconds(target.Serial.Reports[0].At);
        if (agent is not null)
            output = await agent;
        var last = output is null ? default : JsonSerializer.Deserialize<JsonElement>(output.Split('\n', StringSplitOptions.RemoveEmptyEntries)[^1]);
        if (target.LatestReport!.Corrupt != 0)
            throw new InvalidOperationException($"the guest found corrupt pages: {target.Describe()}");
        return output is not null && last.TryGetProperty("instant", out var instant)
            ? new Sample(memoryMiB, way, round, resume, first, last.GetProperty("totalMicroseconds").GetInt64() / 1e6, instant.GetProperty("faults").GetInt64(), instant.GetProperty("faultP99Microseconds").GetInt64() / 1e3)
            : new Sample(memoryMiB, way, round, resume, first, resume, 0, 0);

        double Seconds(long at) => (at - began) / (double)Stopwatch.Frequency;
    }

    private static async Task<string> AgentAsync(params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(TestFiles.Agent, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        var errors = process.StandardError.ReadToEndAsync();
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return process.ExitCode == 0 ? output : throw new InvalidOperationException($"{arguments[0]} ended with {process.ExitCode}: {output} {await errors}");
    }

    private static void Delete(string directory)
    {
        if (Directory.Exists(directory))
            Directory.Delete(directory, recursive: true);
    }
}
