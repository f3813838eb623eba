using System.Runtime.InteropServices;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Storm;

/// <summary>Runs a whole storm: its lanes, its report and its exit code.</summary>
internal static class StormRun
{
    private static readonly TimeSpan ReportEvery = TimeSpan.FromMinutes(10);

    /// <returns>0: every promise was kept; 1: a promise was broken, or no round ran.</returns>
    public static async Task<int> RunAsync(StormOptions options, CancellationToken cancellation)
    {
        Directory.CreateDirectory(options.Folder);
        Tally tally = new();
        Rounds rounds = new(options, tally);
        var without = options.Without.Count > 0 ? ", without " + string.Join(", ", options.Without) : "";
        Console.WriteLine(
            Invariant($"storm: STORM_SEED={options.Seed} STORM_LANES={options.Lanes}, {options.Time.TotalMinutes} minutes{without}")
        );
        Console.WriteLine($"{RuntimeInformation.OSDescription}; {await VersionsAsync()}; evidence goes to {options.Folder}");
        Lane lane = new(options, tally, rounds);
        var lanes = Task.WhenAll(
            Enumerable.Range(0, options.Lanes).Select(_ => Task.Run(() => lane.RunAsync(cancellation), CancellationToken.None))
        );
        while (await Task.WhenAny(lanes, Task.Delay(ReportEvery, CancellationToken.None)) != lanes)
            await ReportAsync(options, tally, rounds);
        await ReportAsync(options, tally, rounds);
        await lanes;
        var (broken, ready) = (tally.Of("violations"), tally.Of("checks"));
        Console.WriteLine(
            broken > 0 ? $"storm: {broken} VIOLATIONS; evidence is in {options.Folder}"
            : ready == 0 ? "storm: no snapshot was Ready, so nothing was proved"
            : "storm: every promise was kept"
        );
        return broken > 0 || (ready == 0 && options.Round is null) ? 1 : 0;
    }

    private static async Task ReportAsync(StormOptions options, Tally tally, Rounds rounds)
    {
        var minutes = rounds.Elapsed.TotalMinutes;
        Console.WriteLine(
            Invariant(
                $"report: seed {options.Seed}, {minutes:0.0} minutes, {options.Lanes} lanes: {minutes * options.Lanes:0.0} lane minutes"
            )
        );
        foreach (var line in tally.Lines())
            Console.WriteLine(line);
        var file = Path.Combine(options.Folder, Invariant($"report-{options.Seed}-{options.First}.json"));
        await File.WriteAllTextAsync(file, tally.ToJson(), CancellationToken.None);
    }

    private static async Task<string> VersionsAsync()
    {
        List<string> versions = [(await Tool.RunAsync(TestFiles.Agent, "--version")).Trim()];
        foreach (var version in Enum.GetValues<QemuVersion>())
            versions.Add((await Tool.RunAsync(TestFiles.Qemu(version), "--version")).Split('\n')[0]);
        return string.Join("; ", versions);
    }
}
