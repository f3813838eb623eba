using System.CommandLine;
using System.Runtime.InteropServices;
using System.Text.Json;
using Bgsnap.Benchmarks;
using Bgsnap.Linux.Tests.Harness;

if (args is [CopyBenchmark.ChildArgument])
    return CopyBenchmark.BeRead();
const string CopyCase = "copy",
    DisksCopyCase = "disks-copy";
string[] caseNames = [.. BenchmarkCase.All.Select(c => c.Name), CopyCase, DisksCopyCase];
string[] peerNames = [.. Peer.All.Select(p => p.Name)];
Option<string[]> caseOption = new("--case")
{
    HelpName = "NAME,...",
    Description = $"Which of {string.Join(", ", caseNames)} (default: all)",
    DefaultValueFactory = _ => caseNames,
    CustomParser = r => r.Tokens[0].Value.Split(','),
};
Option<string[]> peerOption = new("--peers")
{
    HelpName = "NAME,...",
    Description = $"Which of {string.Join(", ", peerNames)}",
    DefaultValueFactory = _ => ["agent", "qemu"],
    CustomParser = r => r.Tokens[0].Value.Split(','),
};
Option<int> rounds = new("--rounds")
{
    HelpName = "N",
    Description = "Captures of each peer that count, after one that does not",
    DefaultValueFactory = _ => 5,
};
Option<string> output = new("--output")
{
    HelpName = "DIR",
    Description = "Where snapshots are written, and deleted again (default: bench in BGSNAP_OUT)",
    DefaultValueFactory = _ => Path.Combine(TestFiles.Out, "bench"),
};
Option<string?> json = new("--json") { HelpName = "FILE", Description = "Every single measurement" };
Option<string> qemu = new("--qemu")
{
    HelpName = "system|10",
    Description = "Which QEMU",
    DefaultValueFactory = _ => "system",
};
qemu.AcceptOnlyFromAmong("system", "10");
caseOption.Validators.Add(r => RefuseUnknown(r.AddError, r.GetValueOrDefault<string[]>(), caseNames));
peerOption.Validators.Add(r => RefuseUnknown(r.AddError, r.GetValueOrDefault<string[]>(), peerNames));
RootCommand command = new("Measures captures of running machines, QEMU's own background-snapshot beside ours in the same run; needs root.")
{
    caseOption,
    peerOption,
    rounds,
    output,
    json,
    qemu,
};
command.Subcommands.Add(RestoreBenchmark.Command());
command.Subcommands.Add(InstantBenchmark.Command());
command.Subcommands.Add(DisksBenchmark.Command());
command.Subcommands.Add(LibvirtBenchmark.Command());
command.Subcommands.Add(ProofBenchmark.Command());
command.SetAction(
    async (parsed, cancellation) =>
    {
        Directory.CreateDirectory(parsed.GetValue(output)!);
        List<Sample> samples = [];
        var speeds = parsed.GetValue(caseOption)!.Contains(CopyCase) ? CopyBenchmark.Run(parsed.GetValue(rounds)) : [];
        var disks = parsed.GetValue(caseOption)!.Contains(DisksCopyCase)
            ? await DisksCopyBenchmark.RunAsync(parsed.GetValue(rounds), parsed.GetValue(output)!)
            : [];
        var version = parsed.GetValue(qemu) == "10" ? QemuVersion.Unpacked10 : QemuVersion.System;
        var peers = Peer.All.Where(p => parsed.GetValue(peerOption)!.Contains(p.Name)).ToArray();
        foreach (var one in BenchmarkCase.All.Where(c => parsed.GetValue(caseOption)!.Contains(c.Name)))
        {
            await using CaptureBenchmark benchmark = new(one, peers, version, parsed.GetValue(output)!);
            samples.AddRange(await benchmark.RunAsync(parsed.GetValue(rounds)));
        }

        string[] head =
        [
            "# Benchmarks",
            "",
            $"Median (least–most) of {parsed.GetValue(rounds)} rounds after one warm-up; {RuntimeInformation.OSDescription}, "
                + $"{Environment.ProcessorCount} CPUs, QEMU {parsed.GetValue(qemu)}.",
            "",
            .. peers.Select(p => $"- {p.Name}: {p.What}"),
            "",
        ];
        string[] copy = speeds.Count > 0 ? [.. CopyBenchmark.Table(speeds)] : [];
        string[] diskCopy = disks.Count > 0 ? [.. DisksCopyBenchmark.Table(disks)] : [];
        string[] targets = samples.Count > 0 ? [.. Report.Targets(samples)] : [];
        foreach (var line in (IEnumerable<string>)[.. head, .. Report.Cases(samples), .. copy, .. diskCopy, .. targets])
            Console.WriteLine(line);
        if (parsed.GetValue(json) is { } file)
            await File.WriteAllTextAsync(
                file,
                JsonSerializer.Serialize(
                    new
                    {
                        samples,
                        speeds,
                        disks,
                    },
                    JsonOptions.Indented
                ),
                cancellation
            );
    }
);
return await command.Parse(args).InvokeAsync();

static void RefuseUnknown(Action<string> refuse, string[]? asked, string[] known)
{
    foreach (var name in (asked ?? []).Except(known))
        refuse($"'{name}' is none of {string.Join(", ", known)}");
}

internal static class JsonOptions
{
    internal static readonly JsonSerializerOptions Indented = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
    };
}
