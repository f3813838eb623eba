using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Storm;

/// <summary>Draws one capture.</summary>
internal static class CaptureDice
{
    /// <summary>Points of the agent's hooks, in their order; the stop window is between the second and the fifth.</summary>
    private static readonly string[] Points =
    [
        "protected-ahead",
        "stop-sent",
        "stopped",
        "protected",
        "released",
        "saved",
        "unprotected",
        "before-commit",
    ];

    private static readonly DisturbanceKind[] Always =
    [
        DisturbanceKind.KillWorker,
        DisturbanceKind.KillCommand,
        DisturbanceKind.KillBoth,
        DisturbanceKind.StopWorker,
        DisturbanceKind.StopWorkerBriefly,
        DisturbanceKind.StopCommand,
        DisturbanceKind.StopBoth,
        DisturbanceKind.FreezeBoth,
        DisturbanceKind.Cancel,
        DisturbanceKind.UserPauses,
        DisturbanceKind.UserResumes,
        DisturbanceKind.UserPausesAndResumes,
        DisturbanceKind.UserResumesAndPauses,
        DisturbanceKind.UserPauses,
        DisturbanceKind.UserPausesAndResumes,
    ];

    private static readonly DisturbanceKind[] OfBalloons =
    [
        DisturbanceKind.BalloonGrows,
        DisturbanceKind.BalloonShrinks,
        DisturbanceKind.GuestMovesMemory,
    ];

    private static readonly DisturbanceKind[] OfDisks =
    [
        DisturbanceKind.OtherBackup,
        DisturbanceKind.OtherBackup,
        DisturbanceKind.ExternalSnapshot,
    ];

    private static readonly DisturbanceKind[] OfPlugs =
    [
        DisturbanceKind.PlugMemory,
        DisturbanceKind.UnplugMemory,
        DisturbanceKind.PlugDisk,
        DisturbanceKind.UnplugDisk,
    ];

    public static CapturePlan Draw(
        Dice dice,
        VirtualMachineOptions machine,
        bool balloon,
        bool pluggable,
        bool ksm,
        IReadOnlySet<string> without
    )
    {
        var engine = dice.Of("agent", "agent", "agent", "agent", "auto", "qemu");
        if (without.Contains("qemu") && engine == "qemu")
            engine = "agent";
        var volume =
            dice.Chance(0.12) ? VolumeKind.Small
            : dice.Chance(0.08) ? VolumeKind.Slow
            : VolumeKind.Roomy;
        // Draw everything first and drop some of it afterwards, so that the following draws stay the same.
        var disturbances = DrawDisturbances(dice, machine, balloon, pluggable).Where(d => !without.Contains(d.Kind.ToString())).ToList();
        var hook = DrawHook(dice);
        var withTruth = dice.Chance(ksm ? 0.7 : 0.1);
        return new()
        {
            Options = DrawOptions(dice, engine),
            Disturbances = disturbances,
            Volume = volume,
            VolumeMiB = volume == VolumeKind.Small ? dice.Between(4, machine.MemoryMiB) : 2 * machine.MemoryMiB + 128,
            Hook = engine != "agent" || without.Contains("hooks") ? null : hook,
            WithTruth = withTruth && engine == "agent",
        };
    }

    private static List<string> DrawOptions(Dice dice, string engine)
    {
        List<string> options = [$"--engine={engine}", $"--compression={dice.Of("none", "none", "lz4", "zstd")}"];
        if (dice.Chance(0.5))
            options.Add(Invariant($"--bandwidth-limit={dice.Of(30, 100, 300)}Mi"));
        if (dice.Chance(0.25))
            options.Add(Invariant($"--max-downtime={dice.Of(2, 20, 200, 2000)}ms"));
        if (dice.Chance(0.25))
            options.Add(Invariant($"--stage-memory={dice.Of(48, 64, 128)}Mi"));
        if (dice.Chance(0.1))
            options.Add(Invariant($"--scratch-limit={dice.Of(2, 16)}Mi"));
        return options;
    }

    private static string? DrawHook(Dice dice)
    {
        var (share, point) = (dice.Share(), dice.Of(Points));
        return share < 0.05 ? $"kill:{point}"
            : share < 0.08 ? $"stop:{point}"
            : share < 0.2 ? $"wait:{point}"
            : null;
    }

    private static IEnumerable<Disturbance> DrawDisturbances(Dice dice, VirtualMachineOptions machine, bool balloon, bool pluggable)
    {
        DisturbanceKind[] kinds =
        [
            .. Always,
            .. balloon ? OfBalloons : [],
            .. pluggable ? OfPlugs : [],
            .. pluggable ? OfPlugs : [],
            .. machine.Disks.Count > 0 ? OfDisks : [],
        ];
        List<Disturbance> all = [];
        // A third of all captures is undisturbed: a capture that is always disturbed never becomes Ready.
        for (var count = dice.Of(0, 0, 1, 1, 2, 3); all.Count < count; )
        {
            // Many disturbances come early, where the stop window is.
            var at = dice.Chance(0.5) ? 0.35 * dice.Share() : 1.1 * dice.Share();
            var kind = dice.Chance(0.01) ? DisturbanceKind.KillQemu : dice.Of(kinds);
            all.Add(new Disturbance(kind, at, dice.Between(1, 400)));
        }

        return all.OrderBy(d => d.At);
    }
}
