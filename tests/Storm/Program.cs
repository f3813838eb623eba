using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Storm;

if (args is [Guard.Argument, var storm])
    return Guard.Be(int.Parse(storm, CultureInfo.InvariantCulture));
Option<double> minutes = new("--minutes")
{
    HelpName = "M",
    Description = "How long",
    DefaultValueFactory = _ => 10,
};
Option<ulong?> seed = new("--seed") { HelpName = "N", Description = "All choices come from it (default: a new one)" };
Option<int?> round = new("--round") { HelpName = "N", Description = "Only this round of the seed" };
Option<int> first = new("--first")
{
    HelpName = "N",
    Description = "The number of the first round",
    DefaultValueFactory = _ => 1,
};
Option<int> lanes = new("--lanes")
{
    HelpName = "N",
    Description = "Machines side by side",
    DefaultValueFactory = _ => 1,
};
Option<string> without = new("--without")
{
    HelpName = "NAME,...",
    Description = $"Leave out: ksm, qemu, hooks, restored-state, {string.Join(", ", Enum.GetNames<DisturbanceKind>())}",
    DefaultValueFactory = _ => "",
};
Option<string> folder = new("--output")
{
    HelpName = "DIR",
    Description = "Evidence and report (default: storm in BGSNAP_OUT)",
    DefaultValueFactory = _ => Path.Combine(TestFiles.Out, "storm"),
};
Option<bool> selfTest = new("--self-test") { Description = "Only show that a broken promise is seen" };
RootCommand command = new("Captures and restores machines at random, disturbs everything at random, and checks every promise; needs root.")
{
    minutes,
    seed,
    round,
    first,
    lanes,
    without,
    folder,
    selfTest,
};
command.SetAction(
    async (parsed, cancellation) =>
    {
        if (!HarnessLibc.IsRoot)
        {
            await Console.Error.WriteLineAsync("The storm needs root.");
            return 2;
        }

        StormOptions options = new()
        {
            Seed = parsed.GetValue(seed) ?? (ulong)Random.Shared.NextInt64(1, 1_000_000_000),
            Time = TimeSpan.FromMinutes(parsed.GetValue(minutes)),
            Round = parsed.GetValue(round),
            First = parsed.GetValue(first),
            Lanes = parsed.GetValue(lanes),
            Without = parsed.GetValue(without)!.Split(',', StringSplitOptions.RemoveEmptyEntries).ToHashSet(StringComparer.Ordinal),
            Folder = Path.GetFullPath(parsed.GetValue(folder)!),
        };
        Guard.Start();
        HostPace.Begin();
        return parsed.GetValue(selfTest) ? await SelfTest.RunAsync(options) : await StormRun.RunAsync(options, cancellation);
    }
);
return await command.Parse(args).InvokeAsync();
