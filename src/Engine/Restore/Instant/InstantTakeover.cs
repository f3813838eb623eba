using System.Diagnostics;
using Bgsnap.Qemu.GuestAgent;
using Bgsnap.Qemu.Vm;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Restore.Instant;

/// <summary>
/// Continues an instant restore whose process died. The guest has been waiting for pages since, and perhaps QEMU itself, so nothing may be
/// asked of QEMU before its faults are served.
/// </summary>
internal static class InstantTakeover
{
    /// <summary>Takes over an unfinished restore; null: there is nothing to take over.</summary>
    /// <exception cref="RestoreRefusedException">Another agent process works there, or restored something else.</exception>
    /// <exception cref="RestoreFailedException">QEMU's guest never ran and can no longer run, or QEMU has ended.</exception>
    internal static RestoreSummary? TryRun(
        TargetMonitor monitor,
        RestoreOptions options,
        SnapshotStream snapshot,
        RestoreProgress progress,
        CancellationToken cancel
    )
    {
        long began = Stopwatch.GetTimestamp();
        if (monitor.Process is not { } process || KeptDescriptors.Find(process) is not { } kept)
            return null;
        if (options.Container is { } container && !ContainerProcesses.IsIn(process, container))
            return null; // refused where everybody is
        using LazyMemory? memory = LazyMemory.TakeOver(process, kept, snapshot.Log);
        if (memory is null)
            return null;

        progress.TakenOver = true;
        progress.TotalBytes = (long)snapshot.Manifest.Ram.TotalBytes;
        progress.Phase = "Memory";
        using InstantFollowUp follow = new(memory, snapshot, progress, options);
        follow.Serve();
        memory.WakeAll();
        using RestoreTarget target = RestoreTarget.Connect(monitor, options.Container, mustWait: false);
        if (target.RunState() == "inmigrate")
            FinishLoading(target, snapshot, memory, follow, cancel);
        TimeSpan running = Stopwatch.GetElapsedTime(began);
        (progress.Method, progress.GuestRuns) = ("instant", true);
        follow.GuestRuns();
        string? frozen = Thaw(target, options, snapshot, out int thawed);
        follow.UntilResident(cancel);
        if (options.HugePages)
            follow.MakeHugePages(cancel);
        TimeSpan all = Stopwatch.GetElapsedTime(began, progress.ResidentAt ?? Stopwatch.GetTimestamp());
        return Summarize(target, snapshot, progress, running, all, thawed, frozen);
    }

    /// <summary>
    /// The result if the earlier process died after its last step: nothing of ours is left in QEMU, and the guest runs.
    /// </summary>
    /// <returns>Null: it had not got that far.</returns>
    internal static RestoreSummary? TryConclude(
        TargetMonitor monitor,
        RestoreOptions options,
        SnapshotStream snapshot,
        RestoreProgress progress
    )
    {
        using RestoreTarget target = RestoreTarget.Connect(monitor, options.Container, mustWait: false);
        if (target.RunState() == "inmigrate")
            return null;
        (progress.TakenOver, progress.Method, progress.GuestRuns) = (true, "instant", true);
        progress.TotalBytes = (long)snapshot.Manifest.Ram.TotalBytes;
        progress.Add(progress.TotalBytes);
        progress.FaultTimes = new FaultTimes(0, 0, 0, 0);
        progress.Resident();
        string? frozen = Thaw(target, options, snapshot, out int thawed);
        return Summarize(target, snapshot, progress, TimeSpan.Zero, TimeSpan.Zero, thawed, frozen);
    }

    /// <summary>The earlier process may have died before it thawed the guest. Thawing a guest that is not frozen does nothing.</summary>
    private static string? Thaw(RestoreTarget target, RestoreOptions options, SnapshotStream snapshot, out int thawed) =>
        FrozenGuest.Thaw(
            snapshot.Manifest,
            GuestAgentAddress.Of(options.GuestAgentSocket, target.Qmp),
            target.RunState(),
            ThawRetry.Patience,
            out thawed
        );

    private static RestoreSummary Summarize(
        RestoreTarget target,
        SnapshotStream snapshot,
        RestoreProgress progress,
        TimeSpan running,
        TimeSpan all,
        int thawed,
        string? frozen
    )
    {
        string state = target.StateAfterwards();
        progress.Phase = "Done";
        return new RestoreSummary
        {
            Snapshot = snapshot.Manifest.Name,
            Method = "instant",
            TimeToRunMicroseconds = (long)running.TotalMicroseconds,
            TotalMicroseconds = (long)all.TotalMicroseconds,
            DisksMicroseconds = 0,
            MemoryMicroseconds = (long)all.TotalMicroseconds,
            RamBytes = (long)snapshot.Manifest.Ram.TotalBytes,
            DiskBytes = 0,
            Disks = [],
            Thawed = thawed,
            StillFrozen = frozen,
            GuestState = state,
            Instant = InstantSummary.Of(progress),
        };
    }

    /// <summary>The earlier process died before the guest ran.</summary>
    private static void FinishLoading(
        RestoreTarget target,
        SnapshotStream snapshot,
        LazyMemory memory,
        InstantFollowUp follow,
        CancellationToken cancel
    )
    {
        switch (target.Incoming().Status)
        {
            case null or "none":
                InstantRestore.Load(target, snapshot, memory, follow, null, cancel);
                break;
            case "failed":
                throw new RestoreFailedException(
                    Reasons.QemuRefusedSnapshot,
                    "an earlier restore into this QEMU ended before the guest ran"
                );
            default:
                InstantRestore.WaitUntilRunning(target, follow, null);
                break;
        }
    }
}
