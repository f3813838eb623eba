using System.Diagnostics;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Storm;

/// <summary>One guest and its user, who has a separate monitor: what the user last asked for, and whether the guest lives.</summary>
internal sealed class GuestWatch(VirtualMachine vm, Tally tally)
{
    /// <summary>
    /// A guest must visibly count within this time. It is free much sooner; the rest allows for a host with more work than cores.
    /// </summary>
    public static readonly TimeSpan Bound = TimeSpan.FromSeconds(10);

    private static readonly TimeSpan StateLimit = TimeSpan.FromSeconds(5);
    private bool _runs = true;

    /// <summary>
    /// The last pause fell into a stop window, where QEMU answers it without an event: it cannot be told apart from the window itself.
    /// </summary>
    private bool _uncertain;

    public VirtualMachine Machine => vm;

    /// <summary>Whether the user last asked the guest to run.</summary>
    public bool Runs => _runs;

    public bool IsUncertain => _uncertain;

    /// <summary>When the user's last request was made: <see cref="Stopwatch.GetTimestamp"/>.</summary>
    public long Asked { get; private set; }

    public async Task PauseAsync()
    {
        var stopped = IsStopped(vm.Qmp.Events);
        Asked = Stopwatch.GetTimestamp();
        await AskAsync("stop");
        var own = vm.Qmp.Events.Count(e => e.Name == "STOP" && e.At >= Asked);
        _uncertain = _runs && (stopped || own != 1);
        if (_uncertain)
            tally.Count("noted", "pauses that met a stop window");
        _runs = false;
    }

    public async Task ResumeAsync()
    {
        Asked = Stopwatch.GetTimestamp();
        await AskAsync("cont");
        (_runs, _uncertain) = (true, false);
    }

    /// <summary>Asserts that the guest counts from now on; a paused guest need not.</summary>
    public async Task LivesAsync(string after)
    {
        if (vm.HasExited)
            throw new ViolationException(Promise.GuestDied, $"after {after}: QEMU has ended");
        if (!_runs || _uncertain)
            return;
        var began = Stopwatch.GetTimestamp();
        GuestReport report;
        try
        {
            report = await HostPace.WithinAsync(Bound, limit => vm.WaitForReportAsync(r => r.At > began, $"tick after {after}", limit));
        }
        catch (TimeoutException e)
        {
            throw vm.HasExited
                ? new ViolationException(Promise.GuestDied, $"after {after}: QEMU has ended", e)
                : new ViolationException(
                    Promise.GuestHung,
                    $"after {after}: no tick within {Bound.TotalSeconds} s; the guest is {await StateOrSilenceAsync()}",
                    e
                );
        }

        tally.Longest("wait for a tick", Stopwatch.GetElapsedTime(began));
        if (report.Corrupt != 0)
            throw new ViolationException(Promise.GuestCorrupt, $"after {after}: the guest found {report.Corrupt} wrong pages or blocks");
    }

    /// <summary>Asserts that the machine is in the state that its user last asked for.</summary>
    public async Task IsAsAskedAsync(string after)
    {
        var began = Stopwatch.GetTimestamp();
        for (var state = await StateAsync(after); ; state = await StateAsync(after))
        {
            if (_uncertain && state is "running" or "paused")
            {
                (_runs, _uncertain) = (state == "running", false);
                return;
            }

            if (state == (_runs ? "running" : "paused"))
                return;
            if (Stopwatch.GetElapsedTime(began) > StateLimit)
            {
                throw new ViolationException(
                    Promise.WrongRunState,
                    $"after {after}: the guest is {state}, its user asked for {(_runs ? "running" : "paused")}"
                );
            }

            await Task.Delay(50);
        }
    }

    private static bool IsStopped(IReadOnlyList<QmpEvent> events) =>
        events.LastOrDefault(e => e.Name is "STOP" or "RESUME")?.Name == "STOP";

    private async Task<string> StateAsync(string after)
    {
        try
        {
            return await vm.Qmp.RunStateAsync();
        }
        catch (Exception e) when (e is IOException or TimeoutException)
        {
            throw new ViolationException(
                vm.HasExited ? Promise.GuestDied : Promise.GuestHung,
                $"after {after}: QEMU's monitor does not answer",
                e
            );
        }
    }

    private async Task<string> StateOrSilenceAsync()
    {
        try
        {
            return await vm.Qmp.RunStateAsync().WaitAsync(TimeSpan.FromSeconds(2));
        }
        catch (Exception e) when (e is IOException or TimeoutException)
        {
            return "unknown: QEMU's monitor does not answer";
        }
    }

    /// <summary>QEMU refuses others' commands during the milliseconds of a stop window ("a dump in process"); the user retries.</summary>
    private async Task AskAsync(string command)
    {
        for (var began = Stopwatch.GetTimestamp(); ; await Task.Delay(20))
        {
            try
            {
                await vm.Qmp.ExecuteAsync(command);
                return;
            }
            catch (QmpErrorException) when (Stopwatch.GetElapsedTime(began) < StateLimit)
            {
                tally.Count("noted", "user's commands that were refused for a moment");
            }
            catch (Exception e) when (e is IOException or TimeoutException or QmpErrorException)
            {
                throw new ViolationException(
                    vm.HasExited ? Promise.GuestDied : Promise.GuestHung,
                    $"the user's own '{command}' failed: {e.Message}",
                    e
                );
            }
        }
    }
}
