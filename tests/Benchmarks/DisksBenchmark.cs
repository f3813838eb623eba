using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Benchmarks;

/// <summary>
/// What disks cost: the stop window with 0, 1, 2 and 8 of them beside QEMU's own transaction of blockdev-backup, what the guest's writes
/// wait while they are copied, how fast a full disk is copied beside qemu-img, and how long it takes until a machine with that disk runs
/// again.
/// </summary>
internal sealed class DisksBenchmark(QemuVersion version, string output, int rounds)
{
    private const int FullMiB = 1024;
    private static readonly int[] DiskNumbers = [0, 1, 2, 8];
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(10);

    /// <summary>One capture, or one transaction, of a machine with so many disks.</summary>
    internal sealed record Cut(
        int Disks,
        string Peer,
        double DowntimeMilliseconds,
        double? P50BeforeMicroseconds,
        double? P99BeforeMicroseconds,
        double? P50Microseconds,
        double? P99Microseconds
    );

    /// <summary>A full disk.</summary>
    internal sealed record Copy(double AgentMegabytesPerSecond, double QemuImgMegabytesPerSecond, double RestoreSeconds);

    internal sealed record Result(IReadOnlyList<Cut> Cuts, IReadOnlyList<Copy> Copies);

    /// <summary><c>disks</c>.</summary>
    internal static Command Command()
    {
        Option<int> rounds = new("--rounds")
        {
            HelpName = "N",
            Description = "Rounds that count, after one that does not",
            DefaultValueFactory = _ => 5,
        };
        Option<string> output = new("--output")
        {
            HelpName = "DIR",
            Description = "Where snapshots are written, and deleted again (default: bench in BGSNAP_OUT)",
            DefaultValueFactory = _ => Path.Combine(TestFiles.Out, "bench"),
        };
        Option<string> qemu = new("--qemu")
        {
            HelpName = "system|10",
            Description = "Which QEMU",
            DefaultValueFactory = _ => "system",
        };
        qemu.AcceptOnlyFromAmong("system", "10");
        Command command = new("disks", "What disks cost: downtime, latency of the guest's writes, speed of the copy, time of a restore.")
        {
            rounds,
            output,
            qemu,
        };
        command.SetAction(
            async (parsed, _) =>
            {
                Directory.CreateDirectory(parsed.GetValue(output)!);
                DisksBenchmark benchmark = new(
                    parsed.GetValue(qemu) == "10" ? QemuVersion.Unpacked10 : QemuVersion.System,
                    parsed.GetValue(output)!,
                    parsed.GetValue(rounds)
                );
                foreach (var line in Table(await benchmark.RunAsync()))
                    Console.WriteLine(line);
            }
        );
        return command;
    }

    internal async Task<Result> RunAsync()
    {
        List<Cut> cuts = [];
        foreach (var number in DiskNumbers)
        {
            await using var vm = await VirtualMachine.StartAsync(Machine(number, full: false));
            for (var round = 0; round <= rounds; round++)
            {
                var (agent, transaction) = (await CaptureAsync(vm, number), number > 0 ? await TransactionAsync(vm, number) : null);
                if (round > 0)
                    cuts.AddRange(((Cut?[])[agent, transaction]).OfType<Cut>());
            }
        }

        List<Copy> copies = [];
        for (var round = 0; round < rounds; round++)
            copies.Add(await CopyAsync());
        return new Result(cuts, copies);
    }

    internal static IEnumerable<string> Table(Result result)
    {
        yield return "## disks: what they cost";
        yield return "";
        yield return "One slot in 64 KiB of each disk is written in turn, with O_DIRECT; the latencies are the guest's own, of its seconds "
            + "before and while disks are copied.";
        yield return "";
        yield return "| disks | | downtime, ms | p50 before, µs | p50 while copied, µs | p99 before, µs | p99 while copied, µs |";
        yield return "|---|---|---|---|---|---|---|";
        foreach (var group in result.Cuts.GroupBy(c => (c.Disks, c.Peer)))
        {
            string downtime = Numbers.Cell(group.Select(c => (double?)c.DowntimeMilliseconds), "0.0");
            yield return $"| {group.Key.Disks} | {group.Key.Peer} | {downtime} | "
                + string.Join(
                    " | ",
                    (
                        (Func<Cut, double?>[])
                            [c => c.P50BeforeMicroseconds, c => c.P50Microseconds, c => c.P99BeforeMicroseconds, c => c.P99Microseconds]
                    ).Select(value => Numbers.Cell(group.Select(value), "0"))
                )
                + " |";
        }

        yield return "";
        yield return $"A disk of {FullMiB} MiB of random data:";
        yield return "";
        yield return "| | |";
        yield return "|---|---|";
        yield return "| copied by a capture, the guest writing, MB/s | "
            + $"{Numbers.Cell(result.Copies.Select(c => (double?)c.AgentMegabytesPerSecond), "0")} |";
        yield return "| copied by qemu-img convert, the guest stopped, MB/s | "
            + $"{Numbers.Cell(result.Copies.Select(c => (double?)c.QemuImgMegabytesPerSecond), "0")} |";
        yield return "| restored, from the command until the guest runs, s | "
            + $"{Numbers.Cell(result.Copies.Select(c => (double?)c.RestoreSeconds), "0.0")} |";
        yield return "";
    }

    private VirtualMachineOptions Machine(int disks, bool full) =>
        new()
        {
            Version = version,
            MemoryMiB = 256,
            Disks =
            [
                .. Enumerable
                    .Range(0, disks)
                    .Select(i => new TestDisk
                    {
                        Name = $"disk{i}",
                        MiB = full ? FullMiB : 64,
                        IsFull = full,
                    }),
            ],
            Guest =
                disks == 0
                    ? new LinuxGuest { MiB = 64 }
                    : new LinuxGuest
                    {
                        Mode = "disk",
                        Writers = 0,
                        Disks = disks,
                        Slots = 512,
                    },
        };

    private async Task<Cut> CaptureAsync(VirtualMachine vm, int number)
    {
        await Task.Delay(TimeSpan.FromSeconds(3));
        var began = Stopwatch.GetTimestamp();
        var (summary, _) = await CaptureAsync(vm);
        return With(vm, number, "capture", summary.GetProperty("downtimeMicroseconds").GetInt64() / 1000.0, began);
    }

    private async Task<(JsonElement Summary, string Directory)> CaptureAsync(VirtualMachine vm)
    {
        var directory = Path.Combine(output, "disks");
        if (Directory.Exists(directory))
            Directory.Delete(directory, recursive: true);
        var result = await AgentProcess.RunAsync(
            Patience,
            "capture",
            "--qmp",
            vm.QmpSocket,
            "--output",
            directory,
            "--json",
            "--engine=agent"
        );
        if (result.ExitCode != 0)
            throw new InvalidOperationException(result.ToString());
        var last = result.StandardOutput.Split('\n', StringSplitOptions.RemoveEmptyEntries)[^1];
        return (JsonSerializer.Deserialize<JsonElement>(last).GetProperty("summary"), directory);
    }

    /// <summary>The least that QEMU itself needs: stop, one transaction for all disks, cont, by QEMU's own events.</summary>
    private static async Task<Cut> TransactionAsync(VirtualMachine vm, int number)
    {
        await Task.Delay(TimeSpan.FromSeconds(3));
        JsonArray actions = [];
        for (var i = 0; i < number; i++)
        {
            await Tool.RunAsync("qemu-img", "create", "-q", "-f", "qcow2", Scratch(vm, i), "64M");
            await vm.Qmp.ExecuteAsync(
                "blockdev-add",
                new JsonObject
                {
                    ["driver"] = "qcow2",
                    ["node-name"] = $"scratch{i}",
                    ["file"] = new JsonObject { ["driver"] = "file", ["filename"] = Scratch(vm, i) },
                }
            );
            actions.Add(
                new JsonObject
                {
                    ["type"] = "blockdev-backup",
                    ["data"] = new JsonObject
                    {
                        ["job-id"] = $"backup{i}",
                        ["device"] = $"libvirt-{i + 1}-storage",
                        ["target"] = $"scratch{i}",
                        ["sync"] = "none",
                    },
                }
            );
        }

        var (events, began) = (vm.Qmp.Events.Count, Stopwatch.GetTimestamp());
        await vm.Qmp.ExecuteAsync("stop");
        await vm.Qmp.ExecuteAsync("transaction", new JsonObject { ["actions"] = actions });
        await vm.Qmp.ExecuteAsync("cont");
        var stopped = await vm.Qmp.WaitForEventAsync("STOP", Patience, events);
        var resumed = await vm.Qmp.WaitForEventAsync("RESUME", Patience, events);
        await Task.Delay(TimeSpan.FromSeconds(2));
        var cut = With(
            vm,
            number,
            "stop, blockdev-backup, cont",
            Stopwatch.GetElapsedTime(stopped.At, resumed.At).TotalMilliseconds,
            began
        );
        for (var i = 0; i < number; i++)
            await vm.Qmp.ExecuteAsync("block-job-cancel", new JsonObject { ["device"] = $"backup{i}" });
        while ((await vm.Qmp.ExecuteAsync("query-block-jobs")).GetArrayLength() > 0)
            await Task.Delay(20);
        for (var i = 0; i < number; i++)
        {
            await vm.Qmp.ExecuteAsync("blockdev-del", new JsonObject { ["node-name"] = $"scratch{i}" });
            File.Delete(Scratch(vm, i));
        }

        return cut;
    }

    private async Task<Copy> CopyAsync()
    {
        var options = Machine(1, full: true);
        double agent,
            qemuImg;
        string directory;
        await using (var vm = await VirtualMachine.StartAsync(options))
        {
            (var summary, directory) = await CaptureAsync(vm);
            var steps = summary
                .GetProperty("timeline")
                .EnumerateArray()
                .ToDictionary(e => e.GetProperty("name").GetString()!, e => e.GetProperty("offsetMicroseconds").GetInt64());
            agent = ((long)FullMiB << 20) / (double)(steps["disks-copied"] - steps["disks-exposed"]);
            await vm.StopVcpusAsync();
            var copy = Path.Combine(output, "qemu-img.qcow2");
            var began = Stopwatch.GetTimestamp();
            await Tool.RunAsync("qemu-img", "convert", "-U", "-f", "raw", "-O", "qcow2", vm.ImageOf("disk0"), copy);
            // As a capture does: durable.
            await Tool.RunAsync("sync", copy);
            qemuImg = ((long)FullMiB << 20) / 1e6 / Stopwatch.GetElapsedTime(began).TotalSeconds;
            File.Delete(copy);
        }

        await using var target = await VirtualMachine.StartAsync(
            options with
            {
                Incoming = "defer",
                Disks = [options.Disks[0] with { IsFull = false }],
            }
        );
        var result = await AgentProcess.RunAsync(Patience, "restore", directory, "--qmp", target.QmpSocket, "--mode=stream");
        if (result.ExitCode != 0)
            throw new InvalidOperationException(result.ToString());
        Directory.Delete(directory, recursive: true);
        return new Copy(agent, qemuImg, result.Took.TotalSeconds);
    }

    /// <summary>Latencies of the guest's three seconds before, and of those that overlap the time since.</summary>
    private static Cut With(VirtualMachine vm, int number, string peer, double downtime, long began)
    {
        var ended = Stopwatch.GetTimestamp();
        var all = vm.Serial.Latencies;
        var before = all.Where(l => l.At <= began && l.At > GuestHistory.After(began, -3.5)).ToList();
        var during = all.Where(l => l.At > began && l.At <= GuestHistory.After(ended, 1)).ToList();
        return new Cut(number, peer, downtime, P50(before), P99(before), P50(during), P99(during));
    }

    private static double? P50(IEnumerable<LatencyReport> seconds) => Numbers.Median(seconds.Select(l => (double?)l.P50.TotalMicroseconds));

    private static double? P99(IEnumerable<LatencyReport> seconds) => seconds.Max(l => (double?)l.P99.TotalMicroseconds);

    private static string Scratch(VirtualMachine vm, int disk) =>
        Path.Combine(vm.Folder, string.Create(CultureInfo.InvariantCulture, $"scratch{disk}"));
}
