using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>How a stop window is given up: the guest first.</summary>
internal sealed unsafe partial class StopWindow
{
    /// <summary>What QEMU has not begun to do within this time, in milliseconds, has not reached it.</summary>
    private const int ReachesQemu = 300;
    private const int SaveEnds = 2000,
        BrokenSaveEnds = 500;

    /// <summary>
    /// Gives the guest the state that it had, now. What QEMU writes is taken and thrown away; should that not help, nobody reads any
    /// more: its write fails, and it goes on to the end of what was sent. A write that fails leaves the file open in QEMU (savevm.c does
    /// not close it then), so that it is the second choice. Nothing here waits for an answer that somebody else has to hand on.
    /// </summary>
    private void GiveUp()
    {
        // QEMU may wait for a page whose server has ended with what ended us.
        Free?.Invoke();
        if (_over)
            return;
        _over = true;
        if (_sentAt != 0)
        {
            _pipe.Release();
            if (!SaveEnded(SaveEnds))
            {
                _pipe.Break();
                _ = SaveEnded(BrokenSaveEnds);
            }
        }
        _stop.Release();
        _stop.GiveUp(_sentAt != 0 && Ran());
        try
        {
            if (_batch.IsDone)
                _ = StrandedGuest.Free(_qmp);
        }
        catch (QmpException)
        {
            // QEMU is gone, or will be looked after by the next agent, which asks for the same.
        }
    }

    /// <summary>
    /// Whether the guest ran when our stop came to it. Only <see cref="LastingStop"/> needs to be told: a doubt means that it did.
    /// </summary>
    private bool Ran()
    {
        try
        {
            for (long end = Environment.TickCount64 + (_stop.Lasts ? (long)LateEvents.TotalMilliseconds : 0); ; Thread.Sleep(1))
            {
                NoteEvents();
                if (_events.StoppedAt != 0 || Environment.TickCount64 >= end)
                    return _events.StoppedAt != 0 || !_batch.IsDone || !_qmp.TakesWholeBatches;
                if (_batch.IsDone && _qmp.TakesWholeBatches)
                    return false;
            }
        }
        catch (QmpException)
        {
            return true;
        }
    }

    /// <summary>Whether QEMU is not saving devices any more, or never was: before that the guest must not run.</summary>
    private bool SaveEnded(int milliseconds)
    {
        for (long began = Environment.TickCount64; Environment.TickCount64 - began < milliseconds; Thread.Sleep(1))
        {
            bool broken = _sentAt == 0;
            try
            {
                _batch.Poll(_qmp);
            }
            catch (QmpException)
            {
                broken = true; // QEMU has ended, or libvirt has: what was not sent never will be
            }
            if (_batch.Answered > _save || (!_qmp.TakesWholeBatches && _batch.Answered < _save))
                return true;
            _pipe.TryDrain();
            bool begun = _pipe.State.Length > 0,
                reached = begun || Environment.TickCount64 - began > ReachesQemu;
            if ((broken || !_qmp.TakesWholeBatches) && reached && !_pipe.IsBeingWritten(_process))
                return true;
        }
        return false;
    }
}
