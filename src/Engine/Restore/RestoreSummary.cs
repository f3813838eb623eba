namespace Bgsnap.Engine.Restore;

/// <summary>The result of a finished restore. Times are microseconds from its first step.</summary>
internal sealed record RestoreSummary
{
    /// <summary>Name of the snapshot.</summary>
    public required string Snapshot { get; init; }

    /// <summary>The method that loaded RAM: <c>instant</c>, <c>eager</c>, <c>stream</c>.</summary>
    public required string Method { get; init; }

    /// <summary>Why the agent chose that method; null: the user named it.</summary>
    public string? MethodReason { get; init; }

    /// <summary>Until the guest ran (or could, if it is paused).</summary>
    public required long TimeToRunMicroseconds { get; init; }

    /// <summary>Until everything was loaded.</summary>
    public required long TotalMicroseconds { get; init; }

    /// <summary>Of that, for checking and writing disks.</summary>
    public required long DisksMicroseconds { get; init; }

    /// <summary>Of that, for RAM and devices.</summary>
    public required long MemoryMicroseconds { get; init; }

    /// <summary>
    /// From handing QEMU the stream until the guest ran: <c>instant</c> and <c>eager</c> load only devices in that time, <c>stream</c> also
    /// loads all of RAM; 0: another process handed it over.
    /// </summary>
    public long LoadMicroseconds { get; init; }

    /// <summary>Bytes of the guest's RAM.</summary>
    public required long RamBytes { get; init; }

    /// <summary>Bytes of data written to disks.</summary>
    public required long DiskBytes { get; init; }

    /// <summary>The disks that were written.</summary>
    public required IReadOnlyList<string> Disks { get; init; }

    /// <summary>What else the images lost, in words; empty: nothing.</summary>
    public IReadOnlyList<string> Dropped { get; init; } = [];

    /// <summary>Number of the guest's file systems that were captured frozen and thawed.</summary>
    public required int Thawed { get; init; }

    /// <summary>Why the guest's file systems are still frozen, and the remedy; null: they are not.</summary>
    public required string? StillFrozen { get; init; }

    /// <summary>
    /// The guest's state now, in QEMU's words: <c>running</c>, or <c>paused</c> if it was captured paused or QEMU was started with
    /// <c>-S</c>; <c>ended</c> if it was migrated away or shut down once all its RAM was loaded.
    /// </summary>
    public required string GuestState { get; init; }

    /// <summary>How memory was loaded while the guest ran; null: it was loaded before the guest ran.</summary>
    public InstantSummary? Instant { get; init; }
}

/// <summary>How memory was loaded while the guest ran.</summary>
/// <param name="TakenOver">Another process began the restore and died.</param>
/// <param name="Faults">Threads of QEMU that waited for memory, and how long.</param>
/// <param name="RecordedUnits">Pieces of 64 KiB loaded first because the guest touched them when it was last started.</param>
/// <param name="HugeBytes">Bytes that were turned into huge pages again when everything was loaded.</param>
/// <param name="Left">What is left in QEMU, in words; null: nothing.</param>
internal sealed record InstantSummary(bool TakenOver, FaultTimes Faults, int RecordedUnits, long HugeBytes, string? Left)
{
    internal static InstantSummary? Of(RestoreProgress progress) =>
        progress.FaultTimes is { } times
            ? new InstantSummary(progress.TakenOver, times, progress.RecordedUnits, progress.HugeBytes, progress.Left)
            : null;
}
