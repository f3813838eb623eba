using System.Diagnostics;
using System.Globalization;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Storm;

/// <summary>The outcome of a round.</summary>
/// <param name="Ends">The outcomes of each capture and of the restore.</param>
/// <param name="Violation">The broken promise; null: every promise was kept.</param>
internal sealed record RoundEnd(string Ends, ViolationException? Violation);

/// <summary>One machine: captured again and again, disturbed, and restored once.</summary>
internal sealed class Round(RoundPlan plan, Tally tally, Evidence evidence, IReadOnlySet<string> without)
{
    private StormGuest? _guest;
    private CaptureStep? _captures;
    private string _restore = "";

    public async Task<RoundEnd> RunAsync()
    {
        ViolationException? violation = null;
        using var ksm = plan.Ksm ? KsmSwitch.On() : null;
        try
        {
            _guest = await StartAsync();
            if (_guest is null)
            {
                evidence.WriteLog(plan);
                return new RoundEnd("not started", null);
            }

            await CaptureAndRestoreAsync(_guest);
        }
        catch (ViolationException e)
        {
            violation = e;
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            // An unforeseen exception may come from QEMU's death, which counts as our fault until the opposite is proved.
            var promise = _guest is { Machine.HasExited: true } ? Promise.GuestDied : Promise.StormFailed;
            violation = new ViolationException(promise, e.Message, e);
        }

        if (violation is not null)
        {
            tally.Count("violations", violation.Promise.ToString());
            await evidence.KeepAsync(plan, violation, _guest?.Machine);
        }

        if (_guest is not null)
            await _guest.DisposeAsync();
        evidence.WriteLog(plan);
        return new RoundEnd($"{string.Join(", ", _captures?.Ends ?? [])}{_restore}", violation);
    }

    /// <summary>A machine that never counts, or for which there are no huge pages, violates no promise.</summary>
    private async Task<StormGuest?> StartAsync()
    {
        try
        {
            return await StormGuest.StartAsync(plan, tally);
        }
        catch (Exception e) when (e is TimeoutException or InvalidOperationException)
        {
            evidence.Note($"not started: {e.Message}");
            var huge = e.Message.Contains("huge pages", StringComparison.Ordinal);
            tally.Count("noted", huge ? "machines without huge pages" : "machines that did not start");
            return null;
        }
    }

    private async Task CaptureAndRestoreAsync(StormGuest guest)
    {
        _captures = new CaptureStep(guest, plan, tally, evidence.Note);
        ReadySnapshot? last = null;
        foreach (var (number, capture) in plan.Captures.Index())
        {
            evidence.Note(Invariant($"capture {number}: {capture}"));
            if (await _captures.RunAsync(capture, number) is { } ready)
            {
                if (last is not null)
                    Directory.Delete(last.Path, recursive: true);
                last = ready;
            }

            if (guest.Machine.HasExited)
                break;
            // If the user has paused the guest, every second capture takes it paused.
            if (number % 2 == 0)
                await ResumeAsync(guest);
        }

        if (!guest.Machine.HasExited)
        {
            await ResumeAsync(guest);
            await guest.Watch.LivesAsync("all captures");
        }

        if (last is null)
            return;
        await guest.Machine.KillAsync();
        evidence.Note(plan.Restore.ToString());
        _restore = $", {plan.Restore} begun";
        await new RestoreStep(plan, tally, evidence.Note, without.Contains("restored-state")).RunAsync(last, guest.Machine.Folder);
        _restore = $", {plan.Restore}";
    }

    private static async Task ResumeAsync(StormGuest guest)
    {
        if (guest.Watch.Runs)
            return;
        await guest.Watch.ResumeAsync();
        await guest.Watch.LivesAsync("its user's resume");
    }
}

/// <summary>Runs rounds one after another, in parallel with other lanes.</summary>
internal sealed class Lane(StormOptions options, Tally tally, Rounds rounds)
{
    public async Task RunAsync(CancellationToken cancellation)
    {
        while (!cancellation.IsCancellationRequested && rounds.Next() is { } number)
        {
            var began = Stopwatch.GetTimestamp();
            var plan = RoundPlan.Draw(options.Seed, number, options.Without);
            Evidence evidence = new(Path.Combine(options.Folder, Invariant($"round-{options.Seed}-{number}")));
            var end = await new Round(plan, tally, evidence, options.Without).RunAsync();
            tally.Count("rounds", end.Violation is null ? "kept every promise" : "broke one");
            var seconds = Stopwatch.GetElapsedTime(began).TotalSeconds;
            Say(Invariant($"round {number}, {seconds:0} s: {(options.Round is null ? plan.Short : plan)}: {end.Ends}"));
            if (end.Violation is not null)
            {
                Say(
                    $"VIOLATION {end.Violation.Promise} in round {Invariant($"{number}")}, kept in {evidence.Folder}, "
                        + Invariant($"replay with STORM_SEED={options.Seed} STORM_ROUND={number}")
                        + $"\n  {plan}\n  {end.Violation.Message.Split('\n')[0]}"
                );
            }
        }
    }

    private static void Say(string line) => Console.WriteLine($"{DateTime.Now.ToString("HH:mm:ss", CultureInfo.InvariantCulture)} {line}");
}

/// <summary>Hands out the numbers of rounds until the time is over, or only the requested one.</summary>
internal sealed class Rounds(StormOptions options, Tally tally)
{
    /// <summary>After this many violations nothing new is to be learned: a storm that always fails ends.</summary>
    private const long Most = 50;

    private readonly long _began = Stopwatch.GetTimestamp();
    private int _last = options.First - 1;

    public TimeSpan Elapsed => Stopwatch.GetElapsedTime(_began);

    public int? Next()
    {
        if (options.Round is { } only)
            return Interlocked.Increment(ref _last) == options.First ? only : null;
        return Elapsed < options.Time && tally.Of("violations") < Most ? Interlocked.Increment(ref _last) : null;
    }
}
