namespace Bgsnap.Storm;

/// <summary>The ways to disturb a running capture.</summary>
internal enum DisturbanceKind
{
    KillWorker,
    KillCommand,
    KillBoth,
    StopWorker,
    StopWorkerBriefly,
    StopCommand,
    StopBoth,
    FreezeBoth,
    Cancel,
    KillQemu,
    UserPauses,
    UserResumes,
    UserPausesAndResumes,
    UserResumesAndPauses,
    BalloonGrows,
    BalloonShrinks,
    GuestMovesMemory,
    PlugMemory,
    UnplugMemory,
    PlugDisk,
    UnplugDisk,
    OtherBackup,
    ExternalSnapshot,
}

/// <summary>One disturbance.</summary>
/// <param name="Kind">The kind.</param>
/// <param name="At">When, as a part of the expected duration of the capture.</param>
/// <param name="Milliseconds">How long it lasts, for kinds that last.</param>
internal sealed record Disturbance(DisturbanceKind Kind, double At, int Milliseconds)
{
    public override string ToString() => Invariant($"{Kind}@{At:0.00}");
}

/// <summary>The kind of volume for a capture's output.</summary>
internal enum VolumeKind
{
    Roomy,

    /// <summary>Too small, or almost too small, for the snapshot.</summary>
    Small,

    /// <summary>Each write waits for the disk, which takes a few MiB per second.</summary>
    Slow,
}

/// <summary>One capture of a round.</summary>
internal sealed record CapturePlan
{
    public required IReadOnlyList<string> Options { get; init; }

    public required IReadOnlyList<Disturbance> Disturbances { get; init; }

    public VolumeKind Volume { get; init; }

    /// <summary>The size in MiB of a small or slow volume.</summary>
    public int VolumeMiB { get; init; }

    /// <summary>BGSNAP_TEST_HOOK: kill, stop or wait at a point that chance would seldom hit; null: no hook.</summary>
    public string? Hook { get; init; }

    /// <summary>The agent dumps RAM in the stop window, and the storm compares every page with the dump.</summary>
    public bool WithTruth { get; init; }

    public override string ToString() =>
        string.Join(
            ' ',
            (IEnumerable<string>)
                [
                    .. Options.Select(o => o.TrimStart('-')),
                    .. Volume == VolumeKind.Roomy ? Array.Empty<string>() : [Invariant($"{Volume}Volume={VolumeMiB}Mi")],
                    .. Hook is null ? Array.Empty<string>() : [$"hook={Hook}"],
                    .. WithTruth ? ["truth"] : Array.Empty<string>(),
                    .. Disturbances.Select(d => d.ToString()),
                ]
        );
}

/// <summary>The ways to disturb a running restore.</summary>
internal enum RestoreDisturbance
{
    Quiet,
    KillWorker,
    StopWorker,
    KillBoth,
    Cancel,
}

/// <summary>How to restore one of a round's snapshots.</summary>
/// <param name="Mode">stream, instant or eager.</param>
/// <param name="Limit">The limit of an instant restore in MiB per second; 0: no limit.</param>
/// <param name="Disturbance">The disturbance.</param>
/// <param name="At">When, in seconds.</param>
internal sealed record RestorePlan(string Mode, int Limit, RestoreDisturbance Disturbance, double At)
{
    public override string ToString() =>
        Invariant($"restore {Mode}{(Limit > 0 ? $" {Limit}Mi/s" : "")}")
        + (Disturbance == RestoreDisturbance.Quiet ? "" : Invariant($" {Disturbance}@{At:0.00}"));
}
