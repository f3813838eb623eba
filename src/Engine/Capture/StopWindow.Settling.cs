using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Capture;

/// <summary>How a stop window ends well: determines the state that the guest had, and checks that it has it again.</summary>
internal sealed unsafe partial class StopWindow
{
    private static readonly TimeSpan LateEvents = TimeSpan.FromSeconds(10),
        EventsCome = TimeSpan.FromSeconds(1);

    private long _pausedSince;

    /// <summary>Waits until it is certain that the guest ran and runs again, or was paused and still is.</summary>
    private void Settle(TimeSpan maximum)
    {
        string status = "";
        for (long end = Environment.TickCount64 + (long)LateEvents.TotalMilliseconds; ; Thread.Sleep(1))
        {
            NoteEvents();
            CheckMoved();
            if (_events.Resumed != 0 && !_plan.Stop.Lasts)
                break;
            if (!_plan.Stop.Holds || _events.HoldEnded)
            {
                status = StrandedGuest.StatusOf(_qmp);
                NoteEvents();
                if (IsSettled(status))
                    break;
            }
            if (Environment.TickCount64 > end)
            {
                throw new CaptureFailedException(
                    Reasons.GuestStateChanged,
                    $"QEMU says that the guest is '{status}', and its events do not tell why: "
                        + "someone else stopped, resumed or ended it meanwhile; try again"
                );
            }
        }
        CheckMoved();
        GiveBackPause();
        FoundPaused = _events.StoppedAt == 0 || (!_plan.Stop.Lasts && _events.Resumed == 0);
        _over = true;
        _plan.Stop.Settled(!FoundPaused);
        if (!FoundPaused && !_plan.Stop.Lasts && maximum > TimeSpan.Zero && TimeSpan.FromMicroseconds(ResumedAt - StoppedAt) > maximum)
            throw TooLong(maximum);
    }

    /// <summary>
    /// Pauses the guest again if its user paused it right before our stop and our <c>cont</c> resumed it: then its STOP is older than our
    /// commands.
    /// </summary>
    private void GiveBackPause()
    {
        if (_plan == _prepared)
            return;
        // The guest suspended itself after the check: `stop` and `cont` restored that state, but its snapshot would not record it.
        if (_facts.IsSuspended)
        {
            _over = true;
            throw Suspended();
        }
        if (_events.StoppedAt != 0 || _events.Resumed == 0)
            return;
        _over = true;
        _qmp.Execute("stop").Dispose();
        throw new CaptureFailedException(
            Reasons.GuestStateChanged,
            "a user paused the guest right before its point in time, and it is paused again; try again"
        );
    }

    private bool IsSettled(string status)
    {
        switch (status)
        {
            case "paused":
                // Through libvirt an event of the window may still be on its way.
                return _qmp.TakesWholeBatches || !_expectsRunning || (_plan.Stop.Lasts && _events.StoppedAt != 0) || HaveEventsCome();
            case "running":
                return !_plan.Stop.Lasts && _events.Resumed != 0;
            case "save-vm":
                // A guest that ran, and whose dump is slow to end, is not suspended after it.
                return StrandedGuest.Free(_qmp) && StrandedGuest.StatusOf(_qmp) == "suspended" ? throw Suspended() : false;
            case "suspended":
                throw Suspended();
            default:
                throw new CaptureFailedException(
                    Reasons.GuestStateChanged,
                    $"the guest's state became '{status}' during the capture: only a running or paused guest can be captured"
                );
        }
    }

    private bool HaveEventsCome()
    {
        if (_pausedSince == 0)
            _pausedSince = Environment.TickCount64;
        return Environment.TickCount64 - _pausedSince > EventsCome.TotalMilliseconds;
    }

    private static CaptureFailedException Suspended() =>
        new(
            Reasons.GuestSuspended,
            "the guest suspended itself (ACPI S3) before its point in time, and is suspended again: wake it up (system_wakeup), "
                + "and try again"
        );
}
