using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Survival;

namespace Bgsnap.Storm;

/// <summary>A snapshot that the agent reported as complete.</summary>
/// <param name="Path">Its directory.</param>
/// <param name="IsPaused">Whether its guest was paused, according to the summary.</param>
internal sealed record ReadySnapshot(string Path, bool IsPaused);

/// <summary>One capture: starts it, disturbs it, and checks what it left.</summary>
internal sealed class CaptureStep(StormGuest guest, RoundPlan plan, Tally tally, Action<string> log)
{
    private readonly List<string> _ends = [];

    /// <summary>The outcome of each capture, in one word.</summary>
    public IReadOnlyList<string> Ends => _ends;

    /// <summary>The time limit of a capture; nothing that it waits for takes longer.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);

    /// <summary>A child whose parent was killed ends by itself.</summary>
    private static readonly TimeSpan PatienceWithOrphans = TimeSpan.FromSeconds(30);

    /// <summary>The duration of the last undisturbed capture: the times of disturbances are drawn as parts of it.</summary>
    private TimeSpan _expected = TimeSpan.FromSeconds(1);

    /// <summary>Runs the capture; null: no snapshot, for an allowed reason. Throws on everything else.</summary>
    public async Task<ReadySnapshot?> RunAsync(CapturePlan capture, int number)
    {
        var what = Invariant($"capture {number}");
        var before = await BlockGraph.TakeAsync(guest.Machine);
        await using var volume = await Volume.MakeAsync(capture, guest.Machine.Folder, guest.Outputs);
        var output = Path.Combine(volume.Folder, Invariant($"s{number}"));
        Disturber disturber = new(guest, tally);

        var result = await CaptureAsync(capture, volume, output, disturber);
        log($"{what}: {result}");
        if (disturber.QemuWasKilled)
        {
            Ended(result, output, disturber, what);
            return null;
        }

        var ready = Ended(result, output, disturber, what);
        await LeavesTheGuestAloneAsync(before, capture, disturber, what);
        if (ready is null)
            return null;
        ready = await MoveAsync(ready, number);
        await new SnapshotCheck(plan, tally).IsTrueAsync(ready.Path, capture.WithTruth ? DumpIn(number) : null);
        if (capture.WithTruth)
            Directory.Delete(DumpIn(number), recursive: true);
        return ready;
    }

    private async Task<AgentResult> CaptureAsync(CapturePlan capture, Volume volume, string output, Disturber disturber)
    {
        var number = int.Parse(Path.GetFileName(output).AsSpan(1), CultureInfo.InvariantCulture);
        var hold = Path.Combine(guest.Machine.Folder, "held");
        Dictionary<string, string> environment = [];
        if (capture.Hook is { } hook)
        {
            environment["BGSNAP_TEST_HOOK"] = hook.StartsWith("wait:", StringComparison.Ordinal) ? $"{hook}:1:{hold}" : hook;
            tally.Count("hooks", hook);
        }

        if (capture.WithTruth)
            environment["BGSNAP_TEST_DUMP"] = Directory.CreateDirectory(DumpIn(number)).FullName;
        await using var family = await CaptureFamily.StartByAsync(
            volume.Starter,
            environment,
            "capture",
            ["--qmp", guest.Machine.QmpSocket, "--output", output, .. capture.Options]
        );
        await family.FindWorkerAsync();
        var began = Stopwatch.GetTimestamp();
        var holding = HoldAsync(family, hold);
        await disturber.DoAsync(family, capture.Disturbances, _expected, began);
        AgentResult result;
        try
        {
            result = await family.WaitAsync(disturber.CommandWasKilled ? PatienceWithOrphans : Patience);
        }
        catch (TimeoutException e)
        {
            // The child holds our pipes; stopped and without a parent, it would do so forever.
            family.SignalWorker(HarnessLibc.SigKill);
            throw new ViolationException(Promise.NeverEnds, e.Message, e);
        }

        await holding;
        if (result.ExitCode == 0 && capture is { Disturbances.Count: 0, Hook: null })
            _expected = Stopwatch.GetElapsedTime(began);
        return result;
    }

    /// <summary>Lets a capture that waits at a hook's point continue after a moment.</summary>
    private static async Task HoldAsync(CaptureFamily family, string hold)
    {
        const int Moment = 150;
        while (!family.HasEnded)
        {
            if (File.Exists(hold))
            {
                await Task.Delay(Moment);
                File.Delete(hold);
            }

            await Task.Delay(2);
        }

        File.Delete(hold);
    }

    /// <summary>Success with a snapshot, failure without one and with a reason, or a command that was killed.</summary>
    private ReadySnapshot? Ended(AgentResult result, string output, Disturber disturber, string what)
    {
        var isThere = File.Exists(Path.Combine(output, "snapshot.json"));
        if (result.StandardError.Contains("   at ", StringComparison.Ordinal))
            throw new ViolationException(Promise.BadEnd, $"{what} ended with a stack trace: {result}");
        if (result.ExitCode == 0)
        {
            if (!isThere)
                throw new ViolationException(Promise.Unsound, $"{what}: success without a snapshot: {result}");
            tally.Count("captures", "Ready");
            _ends.Add("Ready");
            tally.Longest("Ready capture", result.Took);
            return new ReadySnapshot(output, WasPaused(result));
        }

        if (CaptureFamily.ErrorOf(result) is { } error)
        {
            if (error.Reason == "InternalError" || error.ExitCode != result.ExitCode)
                throw new ViolationException(Promise.BadEnd, $"{what}: {result}");
            if (Directory.Exists(output))
                throw new ViolationException(Promise.Leftover, $"{what} failed and its output is there: {result}");
            _ends.Add(error.Reason);
            tally.Count(error.ExitCode is 2 or 3 or 4 ? "captures refused" : "captures failed", error.Reason);
            return null;
        }

        if (!disturber.CommandWasKilled || result.ExitCode != 128 + HarnessLibc.SigKill)
            throw new ViolationException(Promise.BadEnd, $"{what} ended without a word: {result}");
        tally.Count("captures failed", "(command killed)");
        _ends.Add("killed");
        // Killed after the rename, it leaves a complete snapshot and no message.
        return isThere ? new ReadySnapshot(output, false) : null;
    }

    private async Task LeavesTheGuestAloneAsync(BlockGraph before, CapturePlan capture, Disturber disturber, string what)
    {
        await guest.Watch.LivesAsync(what);
        await guest.Watch.IsAsAskedAsync(what);
        foreach (var backup in disturber.Backups)
            await backup.EndsWellAsync();
        foreach (var image in guest.Overlays)
            await ExternalSnapshot.NamesWhatIsBelowAsync(image, what);
        // Nodes below a foreign job stay until the next capture, like the leftovers of a killed one.
        if ((disturber.CommandWasKilled || disturber.Backups.Count > 0) && !await SweepAsync(what))
            return;
        if (disturber.MachineChanged)
            await guest.Plugs.TidyAsync(what);
        guest.QemuKeepsDevice |= !capture.Options.Contains("--engine=agent");
        await guest.NothingIsLeftAsync(disturber.MachineChanged ? null : before, what);
        var hidden = Directory.EnumerateFileSystemEntries(guest.Outputs, ".*").Select(Path.GetFileName).ToList();
        if (hidden.Count > 0)
            throw new ViolationException(Promise.Leftover, $"after {what}: left beside the output: {string.Join(", ", hidden)}");
    }

    /// <summary>The next capture cleans up after one whose processes were all killed; false: no capture is possible.</summary>
    private async Task<bool> SweepAsync(string what)
    {
        const int Attempts = 3;
        for (var attempt = 0; ; attempt++)
        {
            var output = Path.Combine(guest.Outputs, Invariant($"sweep{guest.NextNumber()}"));
            await using var family = await CaptureFamily.StartByAsync(
                [],
                [],
                "capture",
                ["--qmp", guest.Machine.QmpSocket, "--output", output]
            );
            var result = await family.WaitAsync(Patience);
            log($"sweep after {what}: {result}");
            if (result.ExitCode == 0)
            {
                tally.Count("captures", "Ready after a kill of all");
                Directory.Delete(output, recursive: true);
                return true;
            }

            if (result.ExitCode is 3 or 4)
                return false;
            if (attempt == Attempts)
                throw new ViolationException(Promise.Leftover, $"after {what} no capture succeeds any more: {result}");
        }
    }

    /// <summary>Moves the snapshot away from a volume that is about to be unmounted.</summary>
    private async Task<ReadySnapshot> MoveAsync(ReadySnapshot ready, int number)
    {
        var kept = Path.Combine(guest.Machine.Folder, Invariant($"{Evidence.ReadyPrefix}{number}"));
        await Tool.RunAsync("mv", ready.Path, kept);
        return ready with { Path = kept };
    }

    private string DumpIn(int number) => Path.Combine(guest.Machine.Folder, Invariant($"dump{number}"));

    private static bool WasPaused(AgentResult result)
    {
        var last = result.StandardOutput.Split('\n', StringSplitOptions.RemoveEmptyEntries)[^1];
        return JsonSerializer.Deserialize<JsonElement>(last).GetProperty("summary").GetProperty("paused").GetBoolean();
    }
}
