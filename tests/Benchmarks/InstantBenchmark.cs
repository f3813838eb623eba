using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Benchmarks;

/// <summary>
/// How soon a guest is back, by every way in turns: instant, instant with a recorded start, eager, our stream, and QEMU loading an exported
/// stream by itself.
/// </summary>
internal sealed class InstantBenchmark(string folder, QemuVersion version, RamKind ram, InstantGuest guest, int memoryMiB, string more)
{
    private const string Instant = "instant",
        Recorded = "instant, recorded start",
        Eager = "eager",
        Stream = "stream",
        Cat = "QEMU by itself";
    private const string Hot = "hot",
        Cold = "cold";
    private static readonly string[] Ways = [Instant, Recorded, Eager, Stream, Cat];
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(5),
        RatePatience = TimeSpan.FromSeconds(5);

    internal static Command Command()
    {
        string[] guestNames = [.. InstantGuest.All.Select(g => g.Name)],
            caches = [Hot, Cold];
        Option<int[]> sizes = new("--memory")
        {
            HelpName = "MIB,...",
            Description =
                $"Sizes of the guests; default: {string.Join("; ", InstantGuest.All.Select(g => $"{g.Name} {string.Join(",", g.Sizes)}"))}",
            CustomParser = r => [.. r.Tokens[0].Value.Split(',').Select(t => int.Parse(t, CultureInfo.InvariantCulture))],
        };
        Option<string[]> guests = new("--guest")
        {
            HelpName = "NAME,...",
            Description = $"Which of {string.Join("; ", InstantGuest.All.Select(g => $"{g.Name} ({g.What})"))}",
            DefaultValueFactory = _ => guestNames,
            CustomParser = r => r.Tokens[0].Value.Split(','),
        };
        Option<string[]> cache = new("--files")
        {
            HelpName = "hot,cold",
            Description = "Whether the snapshot's files are in the page cache",
            DefaultValueFactory = _ => caches,
            CustomParser = r => r.Tokens[0].Value.Split(','),
        };
        Option<string[]> ways = new("--ways")
        {
            HelpName = "NAME;...",
            Description = $"Which of {string.Join("; ", Ways)}",
            DefaultValueFactory = _ => Ways,
            CustomParser = r => r.Tokens[0].Value.Split(';'),
        };
        Option<string> more = new("--restore-options")
        {
            HelpName = "WORDS",
            Description = "More words for our restores, such as --bandwidth-limit=10Mi",
            DefaultValueFactory = _ => "",
        };
        Option<int> rounds = new("--rounds")
        {
            HelpName = "N",
            Description = "Rounds that count, after one that does not",
            DefaultValueFactory = _ => 5,
        };
        Option<string> output = new("--output")
        {
            HelpName = "DIR",
            Description = "Where the snapshot and the stream are written, and deleted again",
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
        Only(guests, guestNames);
        Only(cache, caches);
        Only(ways, Ways);
        Command command = new("instant", "How soon a guest is back, by every way of restoring; needs root.")
        {
            sizes,
            guests,
            cache,
            ways,
            more,
            rounds,
            output,
            json,
            qemu,
            ram,
        };
        command.SetAction(
            async (parsed, cancellation) =>
            {
                var directory = Directory.CreateDirectory(parsed.GetValue(output)!).FullName;
                var version = parsed.GetValue(qemu) == "10" ? QemuVersion.Unpacked10 : QemuVersion.System;
                var kind = parsed.GetValue(ram) == "memfd" ? RamKind.Memfd : RamKind.Anonymous;
                List<InstantSample> samples = [];
                foreach (var guest in InstantGuest.All.Where(g => parsed.GetValue(guests)!.Contains(g.Name)))
                {
                    foreach (var size in parsed.GetValue(sizes) is { Length: > 0 } asked ? asked : guest.Sizes)
                        samples.AddRange(
                            await new InstantBenchmark(directory, version, kind, guest, size, parsed.GetValue(more)!).RunAsync(
                                parsed.GetValue(cache)!,
                                parsed.GetValue(ways)!,
                                parsed.GetValue(rounds)
                            )
                        );
                }

                Console.WriteLine(
                    string.Create(
                        CultureInfo.InvariantCulture,
                        $"# Instant restore\n\nMedian (least–most) of {parsed.GetValue(rounds)} rounds after one warm-up; "
                            + $"{RuntimeInformation.OSDescription}, {Environment.ProcessorCount} CPUs, QEMU {parsed.GetValue(qemu)}, "
                            + $"{parsed.GetValue(ram)} memory. Seconds from the command on.\n"
                    )
                );
                foreach (var line in InstantSample.Table(samples))
                    Console.WriteLine(line);
                if (parsed.GetValue(json) is { } file)
                    await File.WriteAllTextAsync(file, JsonSerializer.Serialize(samples, JsonOptions.Indented), cancellation);
            }
        );
        return command;
    }

    private static void Only(Option<string[]> option, string[] known) =>
        option.Validators.Add(r =>
        {
            foreach (var name in (r.GetValueOrDefault<string[]>() ?? []).Except(known))
                r.AddError($"'{name}' is none of {string.Join(", ", known)}");
        });

    private string Snapshot => Path.Combine(folder, "instant");

    private string Exported => Path.Combine(folder, "instant.stream");

    /// <summary>What a restore reads; the recorded start is left alone, since it was written a moment ago wherever it exists.</summary>
    private IEnumerable<string> Files => [.. Directory.EnumerateFiles(Snapshot).Where(f => Path.GetFileName(f) != "start-order"), Exported];

    private VirtualMachineOptions Machine =>
        new()
        {
            Version = version,
            Ram = ram,
            MemoryMiB = memoryMiB,
            Accelerator = guest.Accelerator,
            Overcommit = guest.Overcommits,
            Guest = guest.Guest(memoryMiB),
            StartTimeout = Patience,
        };

    private async Task<List<InstantSample>> RunAsync(string[] caches, string[] ways, int rounds)
    {
        List<InstantSample> samples = [];
        if (guest.Impossible(memoryMiB, folder) is { } reason)
            return [.. caches.SelectMany(c => ways.Select(w => NotMeasured(c, w, reason)))];
        try
        {
            var former = await TakeAsync();
            for (var round = 0; round <= rounds; round++)
            {
                foreach (var cache in caches)
                {
                    // In turns, so that what the machine does beside falls on all; the recorded start is that of the round's first.
                    File.Delete(Path.Combine(Snapshot, "start-order"));
                    foreach (var way in ways.Where(w => !samples.Exists(s => s.Way == w && s.Cache == cache && s.Impossible is not null)))
                    {
                        InstantSample sample;
                        try
                        {
                            sample = await RestoreAsync(cache, way, round, former);
                        }
                        catch (Exception e) when (e is InvalidOperationException or TimeoutException)
                        {
                            samples.Add(NotMeasured(cache, way, e.Message.Split('\n')[0]));
                            Console.Error.WriteLine(e);
                            continue;
                        }

                        Console.Error.WriteLine(sample);
                        if (round > 0)
                            samples.Add(sample);
                    }
                }
            }

            return [.. samples.OrderByDescending(s => s.Cache)];
        }
        finally
        {
            File.Delete(Exported);
            Delete(Snapshot);
        }
    }

    private InstantSample NotMeasured(string cache, string way, string reason) =>
        new(memoryMiB, guest.Name, cache, way, 0, null, null, null, null, null, null, null, null) { Impossible = reason };

    /// <returns>Writes a second of the guest before; null: it does not tell.</returns>
    private async Task<double?> TakeAsync()
    {
        Delete(Snapshot);
        await using var source = await VirtualMachine.StartAsync(Machine);
        await source.WaitForMoreTicksAsync(3, Patience);
        var from = Stopwatch.GetTimestamp();
        await source.WaitForReportAsync(r => r.At > GuestHistory.After(from, 3), "three seconds of reports", Patience);
        var tells = guest.Guest(memoryMiB) is LinuxGuest;
        var former = new GuestHistory(source.Serial.Reports, []).Rate(GuestHistory.After(from, 1), GuestHistory.After(from, 3));
        await AgentAsync("capture", "--qmp", source.QmpSocket, "--output", Snapshot);
        await AgentAsync("export", Snapshot, "--output", Exported);
        return !tells ? null : former ?? throw new InvalidOperationException($"the guest wrote nothing: {source.Describe()}");
    }

    private async Task<InstantSample> RestoreAsync(string cache, string way, int round, double? former)
    {
        if (cache == Cold)
            PageCache.Drop(Files);
        else
            PageCache.Fill(Files);
        await using var target = await VirtualMachine.StartAsync(Machine with { Incoming = "defer" });
        var began = Stopwatch.GetTimestamp();
        var resumed = target.Qmp.WaitForEventAsync("RESUME", Patience);
        if (way == Cat)
            await target.Qmp.ExecuteAsync("migrate-incoming", new JsonObject { ["uri"] = $"exec:cat {Exported}" });
        var agent =
            way == Cat
                ? null
                : AgentAsync([
                    "restore",
                    Snapshot,
                    "--qmp",
                    target.QmpSocket,
                    "--json",
                    "--keep-small-pages",
                    $"--mode={(way == Recorded ? Instant : way)}",
                    .. more.Split(' ', StringSplitOptions.RemoveEmptyEntries),
                ]);
        if (agent is not null && await Task.WhenAny(agent, resumed) == agent)
            await agent; // says what went wrong
        var resume = Seconds((await resumed).At);
        while (target.Serial.Reports.Count == 0)
            await Task.Delay(1);
        var first = Seconds(target.Serial.Reports[0].At);
        var output = agent is null ? "{}" : await agent;
        var back = former is null ? null : await BackAtRate.WaitAsync(target, former.Value, RatePatience);
        if (target.LatestReport!.Corrupt != 0)
            throw new InvalidDataException($"the guest found corrupt pages: {target.Describe()}");
        var last = JsonSerializer.Deserialize<JsonElement>(output.Split('\n', StringSplitOptions.RemoveEmptyEntries)[^1]);
        InstantSample sample = new(
            memoryMiB,
            guest.Name,
            cache,
            way,
            round,
            resume,
            null,
            first,
            back is { } at ? Seconds(at) : null,
            (former is null ? null : BackAtRate.Best(target.Serial.Reports, former.Value)) * 100,
            resume,
            null,
            null
        );
        if (way is not (Stream or Cat))
            sample = sample with { AfterDevices = last.GetProperty("loadMicroseconds").GetInt64() / 1e3 };
        return last.TryGetProperty("instant", out var instant)
            ? sample with
            {
                Resident = last.GetProperty("totalMicroseconds").GetInt64() / 1e6,
                Faults = instant.GetProperty("faults").GetInt64(),
                FaultP99 = instant.GetProperty("faultP99Microseconds").GetInt64() / 1e3,
            }
            : sample;

        double Seconds(long at) => GuestHistory.Seconds(began, at);
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
