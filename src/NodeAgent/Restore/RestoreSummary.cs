namespace Bgsnap.NodeAgent.Restore;

/// <summary>What a finished restore came to. Times are microseconds from its first step.</summary>
internal sealed record RestoreSummary
{
    /// <summary>Name of the snapshot.</summary>
    public required string Snapshot { get; init; }

    /// <summary>How RAM was brought in: <c>instant</c>, <c>eager</c>, <c>stream</c>.</summary>
    public required string Method { get; init; }

    /// <summary>Why that way, where it was chosen for the user; null: they named it.</summary>
    public string? MethodReason { get; init; }

    /// <summary>Until the guest ran (or, one that is paused, could).</summary>
    public required long TimeToRunMicroseconds { get; init; }

    /// <summary>Until everything was there.</summary>
    public required long TotalMicroseconds { get; init; }

    /// <summary>Of that, for checking and writing disks.</summary>
    public required long DisksMicroseconds { get; init; }

    /// <summary>Of that, for RAM and devices.</summary>
    public required long MemoryMicroseconds { get; init; }

    /// <summary>
    /// From handing QEMU the stream until the guest ran: its devices with <c>instant</c> and <c>eager</c>, with <c>stream</c> all of its
    /// RAM too; 0: another process handed it.
    /// </summary>
    public long LoadMicroseconds { get; init; }

    /// <summary>Bytes of RAM of the guest.</summary>
    public required long RamBytes { get; init; }

    /// <summary>Bytes of data written to disks.</summary>
    public required long DiskBytes { get; init; }

    /// <summary>The disks that were written.</summary>
    public required IReadOnlyList<string> Disks { get; init; }

    /// <summary>What else their images lost, in words; empty: nothing.</summary>
    public IReadOnlyList<string> Dropped { get; init; } = [];

    /// <summary>How many of the guest's file systems, captured frozen, were thawed.</summary>
    public required int Thawed { get; init; }

    /// <summary>Why the guest's file systems are still frozen, and what helps; null: they are not.</summary>
    public required string? StillFrozen { get; init; }

    /// <summary>
    /// State of the guest now, as QEMU calls it: <c>running</c>, or <c>paused</c> where it was captured paused or QEMU was started with
    /// <c>-S</c>; <c>ended</c> where it was migrated away or shut down once all its RAM was there.
    /// </summary>
    public required string GuestState { get; init; }

    /// <summary>How memory followed the guest; null: it was there before the guest ran.</summary>
    public InstantSummary? Instant { get; init; }
}

/// <summary>How memory followed a guest.</summary>
/// <param name="TakenOver">Another process had begun it and died.</param>
/// <param name="Faults">Threads of QEMU that waited for memory, and how long.</param>
/// <param name="RecordedUnits">Pieces of 64 KiB brought in first because the guest touched them when it was last started.</param>
/// <param name="HugeBytes">Bytes that were made huge pages again when all was there.</param>
/// <param name="Left">What is left in QEMU, in words; null: nothing.</param>
internal sealed record InstantSummary(bool TakenOver, FaultTimes Faults, int RecordedUnits, long HugeBytes, string? Left)
{
    internal static InstantSummary? Of(RestoreProgress progress) =>
        progress.FaultTimes is { } times
            ? new InstantSummary(progress.TakenOver, times, progress.RecordedUnits, progress.HugeBytes, progress.Left)
            : null;
}
