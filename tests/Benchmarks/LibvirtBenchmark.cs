using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Libvirt;

namespace Bgsnap.Benchmarks;

/// <summary>
/// <c>-- libvirt</c>: one domain, captured in turns through libvirt and by a QMP socket that it has besides, with and without its disk.
/// </summary>
internal sealed class LibvirtBenchmark(string folder, LibvirtDaemon daemon, string output)
{
    private const string Domain = "bench";
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    internal sealed record Sample(
        string Way,
        bool Disk,
        int Round,
        double DowntimeMilliseconds,
        double WindowMilliseconds,
        double TotalMilliseconds
    );

    internal static Command Command()
    {
        Option<int> rounds = new("--rounds")
        {
            HelpName = "N",
            Description = "Captures of each kind that count, after one that does not",
            DefaultValueFactory = _ => 10,
        };
        Option<int> memory = new("--memory")
        {
            HelpName = "MIB",
            Description = "Size of the guest",
            DefaultValueFactory = _ => 512,
        };
        Option<string> output = new("--output")
        {
            HelpName = "DIR",
            Description = "Where snapshots are written, and deleted again (default: bench in BGSNAP_OUT)",
            DefaultValueFactory = _ => Path.Combine(TestFiles.Out, "bench"),
        };
        Option<string?> json = new("--json") { HelpName = "FILE", Description = "Every single measurement" };
        Command command = new("libvirt", "Captures of one domain through libvirt and by a QMP socket, in turns; needs root.")
        {
            rounds,
            memory,
            output,
            json,
        };
        command.SetAction(
            async (parsed, cancellation) =>
            {
                var samples = await RunAsync(
                    parsed.GetValue(memory),
                    parsed.GetValue(rounds),
                    Directory.CreateDirectory(parsed.GetValue(output)!).FullName
                );
                Console.WriteLine(
                    string.Create(
                        CultureInfo.InvariantCulture,
                        $"# Through libvirt\n\nMedian (least–most) of {parsed.GetValue(rounds)} rounds after one warm-up; "
                            + $"{RuntimeInformation.OSDescription}, {Environment.ProcessorCount} CPUs, QEMU 10 in libvirtd's session "
                            + $"mode, {parsed.GetValue(memory)} MiB of anonymous memory, one raw disk.\n"
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
        yield return "| way | disk | downtime, ms | protection window, ms | whole capture, ms |";
        yield return "|---|---|---|---|---|";
        foreach (var group in samples.GroupBy(s => (s.Way, s.Disk)))
        {
            yield return $"| {group.Key.Way} | {(group.Key.Disk ? "yes" : "no")} | {Cell(s => s.DowntimeMilliseconds, "0.00")} | "
                + $"{Cell(s => s.WindowMilliseconds, "0")} | {Cell(s => s.TotalMilliseconds, "0")} |";
            string Cell(Func<Sample, double> value, string format) => Numbers.Cell(group.Select(s => (double?)value(s)), format);
        }
    }

    private static async Task<IReadOnlyList<Sample>> RunAsync(int memoryMiB, int rounds, string output)
    {
        VirtualMachineOptions options = new()
        {
            Version = QemuVersion.Unpacked10,
            MemoryMiB = memoryMiB,
            Disks = [new TestDisk()],
            Uid = VirtualMachineOptions.LauncherUid,
            Guest = new LinuxGuest
            {
                Mode = "disk",
                Writers = 0,
                Disks = 1,
            },
        };
        var folder = TestFolder.Create();
        try
        {
            using var disks = await TestDisks.CreateAsync(options, folder);
            using SerialConsole serial = new(QemuCommandLine.SerialSocket(folder));
            await using var daemon = await LibvirtDaemon.StartAsync(folder);
            var xml = Path.Combine(folder, "domain.xml");
            await File.WriteAllTextAsync(
                xml,
                DomainXml.Of(
                    options,
                    Domain,
                    Guid.NewGuid(),
                    folder,
                    "-qmp",
                    $"unix:{QemuCommandLine.QmpSocket(folder)},server=on,wait=off"
                )
            );
            await daemon.VirshAsync("create", xml);
            using CancellationTokenSource limit = new(Patience);
            await serial.WaitForReportAsync(r => r.Tick >= 3, limit.Token);
            return await new LibvirtBenchmark(folder, daemon, output).RoundsAsync(rounds);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private async Task<IReadOnlyList<Sample>> RoundsAsync(int rounds)
    {
        List<Sample> samples = [];
        for (var round = 0; round <= rounds; round++)
        {
            foreach (var disk in (bool[])[false, true])
            {
                samples.Add(await CaptureAsync("QMP socket", disk, round, "--qmp", QemuCommandLine.QmpSocket(folder)));
                samples.Add(await CaptureAsync("libvirt", disk, round, "--libvirt", daemon.Uri, "--domain", Domain));
            }
        }

        return [.. samples.Where(s => s.Round > 0)];
    }

    private async Task<Sample> CaptureAsync(string way, bool disk, int round, params string[] which)
    {
        var snapshot = Path.Combine(output, "libvirt");
        var result = await AgentProcess.RunAsync(
            Patience,
            [
                "capture",
                .. which,
                "--output",
                snapshot,
                "--engine=agent",
                disk ? "--disks=all" : "--disks=none",
                "--scratch",
                output,
                "--json",
            ]
        );
        if (result.ExitCode != 0)
            throw new InvalidOperationException(result.ToString());
        Directory.Delete(snapshot, recursive: true);
        var summary = JsonSerializer
            .Deserialize<JsonElement>(result.StandardOutput.Split('\n', StringSplitOptions.RemoveEmptyEntries)[^1])
            .GetProperty("summary");
        return new Sample(
            way,
            disk,
            round,
            Milliseconds("downtimeMicroseconds"),
            Milliseconds("protectionWindowMicroseconds"),
            Milliseconds("totalMicroseconds")
        );

        double Milliseconds(string name) => summary.GetProperty(name).GetInt64() / 1000.0;
    }
}
