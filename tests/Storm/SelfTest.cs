using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Storm;

/// <summary>
/// The negative control: the storm must detect that a capture without write protection is torn, otherwise it proves nothing.
/// </summary>
internal static class SelfTest
{
    private const int MostAttempts = 5;

    private static readonly CapturePlan Unprotected = new()
    {
        Options = ["--engine=agent", "--bandwidth-limit=100Mi"],
        Disturbances = [],
        Hook = "skip:protection",
    };

    /// <returns>0: the storm detected the broken promise.</returns>
    public static async Task<int> RunAsync(StormOptions options)
    {
        Tally tally = new();
        RoundPlan plan = RoundPlan.Draw(options.Seed, 0, options.Without) with
        {
            Machine = new VirtualMachineOptions
            {
                MemoryMiB = 256,
                Guest = new LinuxGuest
                {
                    Writers = 3,
                    MiB = 24,
                    Fill = "random",
                    TickMilliseconds = 100,
                },
            },
            Writers = 3,
            HasBalloon = false,
            Reports = false,
            Pluggable = false,
            Ksm = false,
            Captures = [.. Enumerable.Repeat(Unprotected, MostAttempts)],
        };
        Evidence evidence = new(Path.Combine(options.Folder, "self-test"));
        var end = await new Round(plan, tally, evidence, options.Without).RunAsync();
        if (Directory.Exists(evidence.Folder))
            Directory.Delete(evidence.Folder, recursive: true);
        if (end.Violation is { Promise: Promise.Torn })
        {
            Console.WriteLine($"storm: self-test: a capture without protection was found torn: {end.Violation.Message.Split('\n')[0]}");
            return 0;
        }

        Console.WriteLine(
            $"storm: self-test FAILED: a capture without protection was not found torn: {end.Violation?.ToString() ?? end.Ends}"
        );
        return 1;
    }
}
