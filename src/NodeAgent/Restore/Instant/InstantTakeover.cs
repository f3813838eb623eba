using System.Diagnostics;
using Bgsnap.NodeAgent.GuestAgent;
using Bgsnap.NodeAgent.Vm;

namespace Bgsnap.NodeAgent.Restore.Instant;

/// <summary>
/// Goes on with an instant restore whose process died: the guest waits for pages since, and QEMU itself perhaps, so that
/// nothing may be asked of it before its faults are served.
/// </summary>
internal static class InstantTakeover
{
    /// <summary>Takes over, where there is something to be taken over; null: there is not.</summary>
    /// <exception cref="RestoreRefusedException">Another process of ours works there, or restored something else.</exception>
    /// <exception cref="RestoreFailedException">QEMU's guest never ran and cannot any more, or QEMU has ended.</exception>
    internal static RestoreSummary? TryRun(
        TargetDoor door,
        RestoreOptions options,
        SnapshotStream snapshot,
        RestoreProgress progress,
        CancellationToken cancel
    )
    {
        long began = Stopwatch.GetTimestamp();
        if (door.Process is not { } process || KeptDescriptors.Find(process) is not { } kept)
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
        using RestoreTarget target = RestoreTarget.Connect(door, options.Container, mustWait: false);
        if (target.RunState() == "inmigrate")
            FinishLoading(target, snapshot, memory, follow, cancel);
        TimeSpan running = Stopwatch.GetElapsedTime(began);
        (progress.Method, progress.GuestRuns) = ("instant", true);
        follow.GuestRuns();
        // The one before may have died before it thawed the guest; thawing one that is not frozen does nothing.
        string? frozen = FrozenGuest.Thaw(
            snapshot.Manifest,
            GuestAgentAddress.Of(options.GuestAgentSocket, target.Qmp),
            target.RunState(),
            SureThaw.Patience,
            out int thawed
        );
        follow.UntilResident(cancel);
        if (options.HugePages)
            follow.MakeHugePages(cancel);
        TimeSpan all = Stopwatch.GetElapsedTime(began, progress.ResidentAt ?? Stopwatch.GetTimestamp());
        return Summarize(target, snapshot, progress, running, all, thawed, frozen);
    }

    /// <summary>
    /// What there is to say when the process before us died after its last step: nothing of it is left in QEMU, whose guest runs.
    /// </summary>
    /// <returns>Null: it had not come so far.</returns>
    internal static RestoreSummary? TryConclude(TargetDoor door, RestoreOptions options, SnapshotStream snapshot, RestoreProgress progress)
    {
        using RestoreTarget target = RestoreTarget.Connect(door, options.Container, mustWait: false);
        if (target.RunState() == "inmigrate")
            return null;
        (progress.TakenOver, progress.Method, progress.GuestRuns) = (true, "instant", true);
        progress.TotalBytes = (long)snapshot.Manifest.Ram.TotalBytes;
        progress.Add(progress.TotalBytes);
        progress.FaultTimes = new FaultTimes(0, 0, 0, 0);
        progress.Resident();
        return Summarize(target, snapshot, progress, TimeSpan.Zero, TimeSpan.Zero, thawed: 0, frozen: null);
    }

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

    /// <summary>The one before us died before the guest ran.</summary>
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
                throw new RestoreFailedException("QemuRefusedSnapshot", "an earlier restore into this QEMU ended before the guest ran");
            default:
                InstantRestore.WaitUntilRunning(target, follow, null);
                break;
        }
    }
}
