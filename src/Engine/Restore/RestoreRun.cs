using System.Diagnostics;
using Bgsnap.Engine.Capture;
using Bgsnap.Engine.Restore.Instant;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.GuestAgent;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Restore;

/// <summary>
/// A restore from beginning to end: check everything first, then write the disks, then RAM and devices. The guest runs last, and is thawed
/// if it was captured frozen.
/// </summary>
internal static class RestoreRun
{
    private const string NotRunning = "The target's guest does not run; restart QEMU to try again";

    private const string Waiting =
        "The guest runs, and waits as soon as it touches memory that is not loaded yet: run the same command again to continue";

    /// <summary>Restores a snapshot into a QEMU that waits with <c>-incoming defer</c>.</summary>
    /// <param name="options">What to restore, and where.</param>
    /// <param name="memory">The method that loads RAM and devices.</param>
    /// <param name="progress">Kept up to date.</param>
    /// <param name="cancel">Ends the restore in good order, as long as the guest does not run.</param>
    /// <exception cref="RestoreRefusedException">The target does not fit; the message names each difference. Nothing was
    /// written.</exception>
    /// <exception cref="RestoreFailedException">The restore began and failed; the guest has not run.</exception>
    /// <exception cref="SnapshotCorruptException">The snapshot is damaged; the guest has not run.</exception>
    internal static RestoreSummary Run(RestoreOptions options, IMemoryRestore memory, RestoreProgress progress, CancellationToken cancel)
    {
        long began = Stopwatch.GetTimestamp();
        using SnapshotStream snapshot = SnapshotStream.Open(options.Directory);
        using TargetMonitor monitor = TargetMonitor.At(options.Target);
        using QemuClaim? claim = Claim(monitor.Process, cancel);
        try
        {
            // This comes first: that QEMU may be waiting for its memory and answer nothing.
            if (InstantTakeover.TryRun(monitor, options, snapshot, progress, cancel) is { } takenOver)
                return takenOver;
            if (options.GuestRan && InstantTakeover.TryConclude(monitor, options, snapshot, progress) is { } concluded)
                return concluded;
        }
        catch (Exception e) when (InWords(e, progress, monitor.Process) is { } said)
        {
            throw said;
        }
        using RestoreTarget target = RestoreTarget.Connect(monitor, options.Container);
        TargetCapabilities.Refuse(target.Qmp);
        using DiskPlan disks = options.Disks ? DiskPlan.Of(target, snapshot) : DiskPlan.Nothing;
        List<string> differences = [.. MachineCheck.Differences(target, snapshot), .. disks.Differences];
        if (differences.Count > 0)
            throw new RestoreRefusedException(
                Reasons.TargetDiffers,
                $"the target is not the machine that was captured: {string.Join("; ", differences)}"
            );
        memory.Check(target, snapshot);

        progress.TotalBytes = disks.BytesToCheck + disks.BytesToWrite + (long)snapshot.Manifest.Ram.TotalBytes;
        try
        {
            disks.Check(progress, cancel);
            // The checks take a while, and libvirt lets anybody start the guest meanwhile.
            target.MustStillWait();
            disks.Write(target.Process.Held, progress, cancel);
            TestHooks.After("disks-written");
            target.MustStillWait();
            TimeSpan disksDone = Stopwatch.GetElapsedTime(began);

            progress.Phase = "Memory";
            TimeSpan running = default,
                loading = default;
            string? frozen = null;
            int thawed = 0;
            memory.Run(
                target,
                snapshot,
                progress,
                () =>
                {
                    running = Stopwatch.GetElapsedTime(began);
                    loading = progress.SentAt is { } sent ? Stopwatch.GetElapsedTime(sent) : default;
                    (progress.TimeToRunMicroseconds, progress.Method) = ((long)running.TotalMicroseconds, memory.Method);
                    progress.GuestRuns = true;
                    progress.Phase = "Thaw";
                    frozen = FrozenGuest.Thaw(
                        snapshot.Manifest,
                        GuestAgentAddress.Of(options.GuestAgentSocket, target.Qmp),
                        target.RunState(),
                        ThawRetry.Patience,
                        out thawed
                    );
                },
                cancel
            );
            TimeSpan all = Stopwatch.GetElapsedTime(began, progress.ResidentAt ?? Stopwatch.GetTimestamp());
            string state = target.StateAfterwards();
            progress.Phase = "Done";
            return new RestoreSummary
            {
                Snapshot = snapshot.Manifest.Name,
                Method = memory.Method,
                MethodReason = progress.MethodReason,
                TimeToRunMicroseconds = (long)running.TotalMicroseconds,
                TotalMicroseconds = (long)all.TotalMicroseconds,
                DisksMicroseconds = (long)disksDone.TotalMicroseconds,
                MemoryMicroseconds = (long)(all - disksDone).TotalMicroseconds,
                LoadMicroseconds = (long)loading.TotalMicroseconds,
                RamBytes = (long)snapshot.Manifest.Ram.TotalBytes,
                DiskBytes = disks.BytesToWrite,
                Disks = disks.Names,
                Dropped = disks.Dropped,
                Thawed = thawed,
                StillFrozen = frozen,
                GuestState = state,
                Instant = InstantSummary.Of(progress),
            };
        }
        catch (Exception e) when (InWords(e, progress, monitor.Process) is { } said)
        {
            throw said;
        }
    }

    private static QemuClaim? Claim(CheckedProcess? qemu, CancellationToken cancel)
    {
        try
        {
            return qemu is null ? null : QemuClaim.Take(qemu, QemuClaim.Moment, Reasons.AlreadyRestoring, cancel);
        }
        catch (RefusedException e)
        {
            throw new RestoreRefusedException(e.Reason, e.Message);
        }
    }

    /// <summary>What a failure means for the guest; null: the exception already says it.</summary>
    private static RestoreFailedException? InWords(Exception e, RestoreProgress progress, CheckedProcess? process)
    {
        string guest = progress.GuestRuns ? Waiting : NotRunning;
        return e switch
        {
            OperationCanceledException => new RestoreFailedException(Reasons.Cancelled, $"cancelled. {guest}", e),
            RestoreFailedException { Reason: Reasons.QemuGone } => null,
            RestoreFailedException f => new RestoreFailedException(f.Reason, $"{f.Message}. {guest}", e),
            // For an ended process the kernel says that it does not exist, that its memory is not mapped, or that we may not inspect it.
            LinuxException or EngineUnavailableException when process is not null && RestoreTarget.HasEnded(process, TimeSpan.Zero) =>
                new RestoreFailedException(Reasons.QemuGone, $"QEMU ended during the restore ({e.Message})", e),
            LinuxException => new RestoreFailedException(Reasons.SystemCallFailed, $"{e.Message}. {guest}", e),
            QmpException when !progress.GuestRuns && (process is null || RestoreTarget.HasEnded(process, RestoreTarget.EndPatience)) =>
                new RestoreFailedException(
                    Reasons.QemuGone,
                    "QEMU ended before its guest ran; libvirt ends a domain that waits for a snapshot when it restarts. "
                        + $"Start it again to try again ({e.Message})",
                    e
                ),
            _ => null,
        };
    }
}
