using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Survival;

namespace Bgsnap.Storm;

/// <summary>Restores a snapshot into another machine, disturbed or not; its guest must count on and find no error.</summary>
internal sealed class RestoreStep(RoundPlan plan, Tally tally, Action<string> log, bool stateIsLeftOut)
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(4),
        Rounds = TimeSpan.FromSeconds(90);

    /// <summary>The passes over everything that a restored guest checks.</summary>
    private const double Twice = 2,
        Part = 0.1;

    /// <param name="snapshot">The snapshot to restore.</param>
    /// <param name="folder">A directory for an image that the target needs.</param>
    public async Task RunAsync(ReadySnapshot snapshot, string folder)
    {
        await using var target = await WaitingAsync(snapshot, folder);
        if (plan.Restore.Disturbance == RestoreDisturbance.Quiet || await DisturbedAsync(snapshot, target))
        {
            await SucceedsAsync(snapshot, target);
            await CountsOnAsync(target);
            return;
        }

        // A QEMU that was cut off in the middle of a stream cannot load another.
        await target.KillAsync();
        await using var second = await WaitingAsync(snapshot, folder);
        await SucceedsAsync(snapshot, second);
        await CountsOnAsync(second);
    }

    private bool IsInstant => plan.Restore.Mode == "instant";

    private async Task<VirtualMachine> WaitingAsync(ReadySnapshot snapshot, string folder)
    {
        var disk = SnapshotDisks.Of(snapshot.Path).Any(d => d.Name == Plugs.Disk) ? Path.Combine(folder, "target-plugged.img") : null;
        if (disk is not null)
            Plugs.MakeImage(disk);
        using var image = SnapshotImage.Open(snapshot.Path);
        var memory = image.Blocks.Any(b => b.Name.Contains(Plugs.MemoryBackend, StringComparison.Ordinal));
        if (memory || disk is not null)
            tally.Count("restores", "with what was plugged in");
        return await VirtualMachine.StartAsync(
            plan.Machine with
            {
                Incoming = "defer",
                Disks = [.. plan.Machine.Disks.Select(d => d with { IsFull = false })],
                ExtraArguments = [.. plan.Machine.ExtraArguments, .. Plugs.ArgumentsOf(plan.Machine.Machine, memory, disk)],
            }
        );
    }

    /// <summary>Starts a restore that may be cut off; false: this target is unusable from now on.</summary>
    private async Task<bool> DisturbedAsync(ReadySnapshot snapshot, VirtualMachine target)
    {
        tally.Count("disturbances of restores", $"{plan.Restore.Disturbance} of {plan.Restore.Mode}");
        await using var family = await CaptureFamily.StartByAsync([], [], "restore", Arguments(snapshot, target));
        await family.FindWorkerAsync();
        await Task.Delay(TimeSpan.FromSeconds(plan.Restore.At));
        switch (plan.Restore.Disturbance)
        {
            case RestoreDisturbance.KillWorker:
                family.SignalWorker(HarnessLibc.SigKill);
                break;
            case RestoreDisturbance.StopWorker:
                family.SignalWorker(HarnessLibc.SigStop);
                break;
            case RestoreDisturbance.KillBoth:
                family.Signal(HarnessLibc.SigKill);
                family.SignalWorker(HarnessLibc.SigKill);
                break;
            default:
                family.Signal(HarnessLibc.SigTerm);
                break;
        }

        var result = await EndAsync(family);
        log($"disturbed restore: {result}");
        if (result.StandardError.Contains("   at ", StringComparison.Ordinal))
            throw new ViolationException(Promise.BadEnd, $"a disturbed restore ended with a stack trace: {result}");
        if (result.ExitCode == 0)
            _done = result;
        return IsInstant || result.ExitCode == 0;
    }

    private AgentResult? _done;

    private async Task SucceedsAsync(ReadySnapshot snapshot, VirtualMachine target)
    {
        if (_done is null)
        {
            await using var family = await CaptureFamily.StartByAsync([], [], "restore", Arguments(snapshot, target));
            _done = await EndAsync(family);
            log($"restore: {_done}");
        }

        tally.Count("restores", plan.Restore.Mode);
        if (_done.ExitCode != 0)
            throw new ViolationException(Promise.NotRestored, $"{_done}\n{target.Describe()}");
        var state = await target.Qmp.RunStateAsync();
        if (!stateIsLeftOut && state != (snapshot.IsPaused ? "paused" : "running"))
        {
            throw new ViolationException(
                Promise.NotRestored,
                $"a guest that was {(snapshot.IsPaused ? "paused" : "running")} is {state} after its restore"
            );
        }
    }

    private static async Task<AgentResult> EndAsync(CaptureFamily family)
    {
        try
        {
            return await family.WaitAsync(Patience);
        }
        catch (TimeoutException e)
        {
            throw new ViolationException(Promise.NeverEnds, e.Message, e);
        }
    }

    /// <summary>
    /// Asserts that the guest has checked everything twice and found no error. If the host has no time for that, a part suffices and is
    /// counted separately.
    /// </summary>
    private async Task CountsOnAsync(VirtualMachine target)
    {
        if (await target.Qmp.RunStateAsync() == "paused")
            await target.ContinueVcpusAsync();
        GuestReport first,
            last;
        var whole = true;
        try
        {
            first = await HostPace.WithinAsync(TimeSpan.FromSeconds(30), l => target.WaitForTickAsync(1, l));
            try
            {
                last = await target.WaitForReportAsync(r => Share(first, r) >= Twice, "two rounds of the restored guest", Rounds);
            }
            catch (TimeoutException) when (!target.HasExited)
            {
                whole = false;
                last = await target.WaitForReportAsync(r => Share(first, r) >= Part, "a part of a round of the restored guest", Rounds);
            }
        }
        catch (TimeoutException e)
        {
            throw new ViolationException(Promise.NotRestored, $"the restored guest does not count: {e.Message}", e);
        }

        if (first.Corrupt != 0 || last.Corrupt != 0)
        {
            throw new ViolationException(
                Promise.NotRestored,
                $"the restored guest found {last.Corrupt} wrong pages or blocks\n{target.Describe()}"
            );
        }

        if (ProcessFingerprint.UserfaultVmasOf(target.Pid) is var left and not 0)
            throw new ViolationException(Promise.Leftover, $"{left} mappings of the restored machine are under userfaultfd");
        tally.Count("restores", whole ? "guests that counted on for two rounds" : "guests that counted on, too slowly for two rounds");
    }

    /// <summary>The number of passes: over its disks if it has any, otherwise over its memory.</summary>
    private double Share(GuestReport from, GuestReport to)
    {
        const int Slots = 128;
        var guest = (LinuxGuest)plan.Machine.Guest;
        return plan.Machine.Disks.Count > 0
            ? (double)(to.Disk - from.Disk) / (Slots * plan.Machine.Disks.Count)
            : (double)(to.Writes - from.Writes) / (guest.Writers * guest.MiB * 256);
    }

    private string[] Arguments(ReadySnapshot snapshot, VirtualMachine target) =>
        [
            snapshot.Path,
            "--qmp",
            target.QmpSocket,
            $"--mode={plan.Restore.Mode}",
            .. plan.Restore.Limit > 0 ? [Invariant($"--bandwidth-limit={plan.Restore.Limit}Mi")] : Array.Empty<string>(),
        ];
}
