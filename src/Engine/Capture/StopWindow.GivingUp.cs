using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Capture;

/// <summary>How a stop window gives up: it frees the guest first.</summary>
internal sealed unsafe partial class StopWindow
{
    /// <summary>A command that QEMU has not started within this time, in milliseconds, has not reached it.</summary>
    private const int ReachesQemu = 300;
    private const int SaveEnds = 2000,
        BrokenSaveEnds = 500;

    /// <summary>
    /// Gives the guest the state that it had, now. The agent reads what QEMU writes and discards it. If that does not help, it closes the
    /// read end: QEMU's write fails, and QEMU continues to the end of what was sent. That is the second choice, because QEMU leaves the
    /// file open after a failed write (savevm.c does not close it then). Nothing here waits for an answer that another process has to
    /// deliver.
    /// </summary>
    private void GiveUp()
    {
        // QEMU may wait for a page whose fault thread ended with the same failure.
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
        _plan.Stop.Release();
        _plan.Stop.GiveUp(_sentAt != 0 && Ran());
        try
        {
            if (_plan.Commands.IsDone)
                _ = StrandedGuest.Free(_qmp);
        }
        catch (QmpException)
        {
            // QEMU is gone, or the next agent will handle it and ask for the same.
        }
    }

    /// <summary>
    /// Whether the guest ran when our stop reached it. Only <see cref="PermanentStop"/> needs to know; if in doubt, the answer is yes.
    /// </summary>
    private bool Ran()
    {
        try
        {
            for (long end = Environment.TickCount64 + (_plan.Stop.Lasts ? (long)LateEvents.TotalMilliseconds : 0); ; Thread.Sleep(1))
            {
                NoteEvents();
                // Our own STOP then looks older than our command.
                if (_clock.IsSetBack)
                    return true;
                if (_events.StoppedAt != 0 || Environment.TickCount64 >= end)
                    return _events.StoppedAt != 0 || !_plan.Commands.IsDone || !_qmp.TakesWholeBatches;
                if (_plan.Commands.IsDone && _qmp.TakesWholeBatches)
                    return false;
            }
        }
        catch (QmpException)
        {
            return true;
        }
    }

    /// <summary>Whether QEMU has finished saving devices, or never began: until then the guest must not run.</summary>
    private bool SaveEnded(int milliseconds)
    {
        for (long began = Environment.TickCount64; Environment.TickCount64 - began < milliseconds; Thread.Sleep(1))
        {
            bool broken = _sentAt == 0;
            try
            {
                _plan.Commands.Poll(_qmp);
            }
            catch (QmpException)
            {
                broken = true; // QEMU or libvirt has ended: what was not sent never will be
            }
            if (_plan.Commands.Answered > _plan.SaveAt || (!_qmp.TakesWholeBatches && _plan.Commands.Answered < _plan.SaveAt))
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
