using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Benchmarks;

/// <summary>
/// <c>-- restore</c>: a snapshot brought back by the agent, beside <c>cat</c> of its exported stream into the same kind of QEMU, in turns.
/// <c>cat</c> does nothing but move bytes that are ready, so that it shows how fast QEMU itself loads.
/// </summary>
internal sealed class RestoreBenchmark(string folder, QemuVersion version, RamKind ram)
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(5);

    internal sealed record Sample(
        int MemoryMiB,
        string Compression,
        int Round,
        double AgentSeconds,
        double AgentMemorySeconds,
        double AgentCpuSeconds,
        double CatSeconds
    )
    {
        public double Ratio => AgentMemorySeconds / CatSeconds;
    }

    internal static Command Command()
    {
        Option<int[]> sizes = new("--memory")
        {
            HelpName = "MIB,...",
            Description = "Sizes of the guests",
            DefaultValueFactory = _ => [1024, 2048],
            CustomParser = r => [.. r.Tokens[0].Value.Split(',').Select(t => int.Parse(t, CultureInfo.InvariantCulture))],
        };
        Option<string[]> compressions = new("--compression")
        {
            HelpName = "NAME,...",
            Description = "How the snapshots are stored",
            DefaultValueFactory = _ => ["none", "zstd"],
            CustomParser = r => r.Tokens[0].Value.Split(','),
        };
        Option<int> rounds = new("--rounds")
        {
            HelpName = "N",
            Description = "Restores of each that count, after one that does not",
            DefaultValueFactory = _ => 5,
        };
        Option<string> output = new("--output")
        {
            HelpName = "DIR",
            Description = "Where snapshots and streams are written, and deleted again (default: bench in BGSNAP_OUT)",
            DefaultValueFactory = _ => Path.Combine(TestFiles.Out, "bench"),
        };
        Option<string?> json = new("--json") { HelpName = "FILE", Description = "Every single measurement" };
        Option<string> qemu = new("--qemu")
        {
            HelpName = "system|10",
            Description = "Which QEMU",
            DefaultValueFactory = _ => "system",
        };
        Option<string> ram = new("--ram")
        {
            HelpName = "anonymous|memfd",
            Description = "What the guest's memory is",
            DefaultValueFactory = _ => "anonymous",
        };
        qemu.AcceptOnlyFromAmong("system", "10");
        ram.AcceptOnlyFromAmong("anonymous", "memfd");
        Command command = new("restore", "Restores by the agent beside cat of an exported stream; needs root.")
        {
            sizes,
            compressions,
            rounds,
            output,
            json,
            qemu,
            ram,
        };
        command.SetAction(
            async (parsed, cancellation) =>
            {
                RestoreBenchmark benchmark = new(
                    Directory.CreateDirectory(parsed.GetValue(output)!).FullName,
                    parsed.GetValue(qemu) == "10" ? QemuVersion.Unpacked10 : QemuVersion.System,
                    parsed.GetValue(ram) == "memfd" ? RamKind.Memfd : RamKind.Anonymous
                );
                List<Sample> samples = [];
                foreach (var size in parsed.GetValue(sizes)!)
                    samples.AddRange(await benchmark.RunAsync(size, parsed.GetValue(compressions)!, parsed.GetValue(rounds)));
                Console.WriteLine(
                    string.Create(
                        CultureInfo.InvariantCulture,
                        $"# Restore\n\nMedian (least–most) of {parsed.GetValue(rounds)} rounds after one warm-up; "
                            + $"{RuntimeInformation.OSDescription}, {Environment.ProcessorCount} CPUs, QEMU {parsed.GetValue(qemu)}, "
                            + $"{parsed.GetValue(ram)} memory, files in the page cache.\n"
                    )
                );
                foreach (var line in Table(samples))
                    Console.WriteLine(line);
                if (parsed.GetValue(json) is { } file)
                    await File.WriteAllTextAsync(file, JsonSerializer.Serialize(samples, JsonOptions.Indented), cancellation);
            }
        );
        return command;
    }

    private static IEnumerable<string> Table(IReadOnlyList<Sample> samples)
    {
        yield return "| RAM, MiB | stored | our restore, s | of it memory, s | cat into the same QEMU, s | memory / cat | agent's CPU, s |";
        yield return "|---|---|---|---|---|---|---|";
        foreach (var group in samples.GroupBy(s => (s.MemoryMiB, s.Compression)))
        {
            yield return $"| {group.Key.MemoryMiB} | {group.Key.Compression} | {Cell(s => s.AgentSeconds)} "
                + $"| {Cell(s => s.AgentMemorySeconds)} | {Cell(s => s.CatSeconds)} | {Cell(s => s.Ratio)} "
                + $"| {Cell(s => s.AgentCpuSeconds)} |";
            string Cell(Func<Sample, double> value) => Numbers.Cell(group.Select(s => (double?)value(s)), "0.00");
        }
    }

    private VirtualMachineOptions Machine(int memoryMiB) =>
        new()
        {
            Version = version,
            Ram = ram,
            MemoryMiB = memoryMiB,
            Guest = new FirmwareGuest(),
        };

    private async Task<List<Sample>> RunAsync(int memoryMiB, IReadOnlyList<string> compressions, int rounds)
    {
        List<Sample> samples = [];
        var stream = Path.Combine(folder, "restore.stream");
        try
        {
            await TakeAsync(memoryMiB, compressions);
            foreach (var compression in compressions)
            {
                File.Delete(stream);
                await AgentAsync("export", Snapshot(compression), "--output", stream);
                for (var round = 0; round <= rounds; round++)
                {
                    // In turns, and each first as often as the other: what the machine does beside falls on both.
                    double cat = 0;
                    if (round % 2 == 0)
                        cat = await CatAsync(memoryMiB, stream);
                    var (all, memory, cpu) = await RestoreAsync(memoryMiB, Snapshot(compression));
                    if (round % 2 != 0)
                        cat = await CatAsync(memoryMiB, stream);
                    Sample sample = new(memoryMiB, compression, round, all, memory, cpu, cat);
                    Console.Error.WriteLine(
                        string.Create(
                            CultureInfo.InvariantCulture,
                            $"{memoryMiB} MiB {compression} round {round}: restore {all:0.00} s, of it memory {memory:0.00}; cat "
                                + $"{cat:0.00} s"
                        )
                    );
                    if (round > 0)
                        samples.Add(sample);
                }
            }

            return samples;
        }
        finally
        {
            File.Delete(stream);
            foreach (var compression in compressions)
                Delete(Snapshot(compression));
        }
    }

    private string Snapshot(string compression) => Path.Combine(folder, $"restore-{compression}");

    private async Task TakeAsync(int memoryMiB, IReadOnlyList<string> compressions)
    {
        await using var source = await VirtualMachine.StartAsync(Machine(memoryMiB));
        await source.StopVcpusAsync();
        using (var memory = await source.OpenMemoryAsync())
            Fill(memory, (long)memoryMiB << 20);
        foreach (var compression in compressions)
        {
            Delete(Snapshot(compression));
            await AgentAsync("capture", "--qmp", source.QmpSocket, "--output", Snapshot(compression), "--compression", compression);
        }
    }

    /// <summary>
    /// Of eight parts one is noise, four are words that a compressor halves or better, and three stay zero; mixed by the megabyte.
    /// </summary>
    private static void Fill(GuestMemory memory, long length)
    {
        const int piece = 1 << 20;
        var random = new Random(4711);
        var words = Enumerable.Range(0, 4096).Select(_ => BitConverter.GetBytes(random.NextInt64())).ToArray();
        var buffer = new byte[piece];
        for (long at = 16 * piece; at + piece <= length; at += piece)
        {
            switch (at / piece % 8)
            {
                case 0:
                    random.NextBytes(buffer);
                    break;
                case < 5:
                    for (var i = 0; i < piece; i += sizeof(long))
                        words[random.Next(words.Length)].CopyTo(buffer, i);
                    break;
                default:
                    continue;
            }

            memory.Write(at, buffer);
        }
    }

    private async Task<(double All, double Memory, double Cpu)> RestoreAsync(int memoryMiB, string snapshot)
    {
        await using var target = await VirtualMachine.StartAsync(Machine(memoryMiB) with { Incoming = "defer" });
        var cpu = ProcessCounters.EndedChildrenCpuSeconds();
        var began = Stopwatch.GetTimestamp();
        var output = await AgentAsync("restore", snapshot, "--qmp", target.QmpSocket, "--mode=stream", "--json");
        var all = Stopwatch.GetElapsedTime(began).TotalSeconds;
        var last = JsonSerializer.Deserialize<JsonElement>(output.Split('\n', StringSplitOptions.RemoveEmptyEntries)[^1]);
        return (all, last.GetProperty("memoryMicroseconds").GetInt64() / 1e6, ProcessCounters.EndedChildrenCpuSeconds() - cpu);
    }

    private async Task<double> CatAsync(int memoryMiB, string stream)
    {
        await using var target = await VirtualMachine.StartAsync(Machine(memoryMiB) with { Incoming = "defer" });
        var began = Stopwatch.GetTimestamp();
        await target.Qmp.ExecuteAsync("migrate-incoming", new JsonObject { ["uri"] = $"exec:cat {stream}" });
        for (; await target.Qmp.RunStateAsync() == "inmigrate"; await Task.Delay(1))
        {
            if (Stopwatch.GetElapsedTime(began) > Patience)
                throw new TimeoutException($"QEMU did not load the stream: {target.Describe()}");
        }

        return Stopwatch.GetElapsedTime(began).TotalSeconds;
    }

    private static async Task<string> AgentAsync(params string[] arguments)
    {
        using var process = Process.Start(
            new ProcessStartInfo(TestFiles.Agent, arguments) { RedirectStandardOutput = true, RedirectStandardError = true }
        )!;
        var errors = process.StandardError.ReadToEndAsync();
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return process.ExitCode == 0
            ? output
            : throw new InvalidOperationException($"{arguments[0]} ended with {process.ExitCode}: {output} {await errors}");
    }

    private static void Delete(string directory)
    {
        if (Directory.Exists(directory))
            Directory.Delete(directory, recursive: true);
    }
}
