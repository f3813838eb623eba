namespace Bgsnap.Storm;

/// <summary>What happens to a capture while it runs.</summary>
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
/// <param name="Kind">What.</param>
/// <param name="At">When, in parts of the time that a capture is expected to take.</param>
/// <param name="Milliseconds">How long it lasts, of those that last.</param>
internal sealed record Disturbance(DisturbanceKind Kind, double At, int Milliseconds)
{
    public override string ToString() => Invariant($"{Kind}@{At:0.00}");
}

/// <summary>Where a capture's output goes.</summary>
internal enum VolumeKind
{
    Roomy,

    /// <summary>Too small for the snapshot, or nearly.</summary>
    Small,

    /// <summary>Each write waits for the disk, which takes some MiB a second.</summary>
    Slow,
}

/// <summary>One capture of a round.</summary>
internal sealed record CapturePlan
{
    public required IReadOnlyList<string> Options { get; init; }

    public required IReadOnlyList<Disturbance> Disturbances { get; init; }

    public VolumeKind Volume { get; init; }

    /// <summary>Of a small or slow volume.</summary>
    public int VolumeMiB { get; init; }

    /// <summary>BGSNAP_TEST_HOOK: kill, stop or wait at a point that chance would seldom meet. Null: none.</summary>
    public string? Hook { get; init; }

    /// <summary>The agent dumps RAM in the stop window, and every page is compared with it.</summary>
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

/// <summary>What happens to a restore while it runs.</summary>
internal enum RestoreDisturbance
{
    Quiet,
    KillWorker,
    StopWorker,
    KillBoth,
    Cancel,
}

/// <summary>How one of a round's snapshots is brought back.</summary>
/// <param name="Mode">stream, instant or eager.</param>
/// <param name="Limit">MiB a second of an instant restore; 0: no limit.</param>
/// <param name="Disturbance">What befalls it.</param>
/// <param name="At">When, in parts of a second.</param>
internal sealed record RestorePlan(string Mode, int Limit, RestoreDisturbance Disturbance, double At)
{
    public override string ToString() =>
        Invariant($"restore {Mode}{(Limit > 0 ? $" {Limit}Mi/s" : "")}")
        + (Disturbance == RestoreDisturbance.Quiet ? "" : Invariant($" {Disturbance}@{At:0.00}"));
}
