using System.Text.Json;
using Bgsnap.NodeAgent.Libvirt;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Store;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// The stop window: what is sent to QEMU at once stops the guest, cuts its disks, saves its devices and resumes it, and is held in the middle by a full
/// pipe while we protect the guest's memory.
/// </summary>
/// <remarks>
/// <code>
///   agent                                                 QEMU
///   without disks, one command:
///   xen-save-devices-state {live:false} ────────────────▶ vm_stop(): vCPUs stopped, requests drained     STOP
///   with disks, one write:
///   getfd (this connection), stop, qom-set drive …, ───▶ each in turn                                   STOP
///     xen-save-devices-state, cont, closefd
///
///   pipe readable ◀────────────────────────────────────── device state, until the pipe (one page) is full
///   write-protect guest RAM                               blocked in write(2)
///   F_SETPIPE_SZ 1 MiB ─────────────────────────────────▶ writes the rest, vm_start()                    RESUME
///   read the pipe ◀──────────────────────────────────────
/// </code>
/// There is no <c>cont</c> that could be lost. qmp_xen_save_devices_state() (QEMU's migration/savevm.c) itself resumes a guest that was running,
/// whatever becomes of the file: if we die, the read end closes, the write fails and the guest runs. In the write of several commands QEMU gets a
/// duplicate of our end of its own monitor connection, which therefore does not close when we die: it works off all that was sent, <c>cont</c> too, and
/// the last command lets the connection go. A guest that was paused stays paused.
/// Through libvirt, which takes one command at a time, it is one command without disks, too. With disks each is sent when the one before is answered, and there
/// is no cont either: the first stops the guest as long as we hold a pipe (<see cref="GuestHold"/>).
/// A guest that is to stay stopped has a note in QEMU (<see cref="StoppedGuestMark"/>), which tells whoever looks after us to let it run, should we die before its
/// snapshot is complete.
/// </remarks>
internal sealed unsafe class StopWindow : IDisposable
{
    private const string SaveCommand = "xen-save-devices-state", ConnectionName = "agent-bgsnap-connection";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60), LateEvents = TimeSpan.FromSeconds(10);

    private readonly IQmpMonitor _qmp;
    private readonly DeviceStatePipe _pipe;
    private readonly QmpBatch _batch = new();
    private readonly bool _wasRunning;
    private readonly StoppedGuestMark? _mark;
    private readonly GuestHold? _hold;
    private readonly bool _stays;
    private readonly bool _keepsConnection;
    private readonly int _save;
    private readonly int _stop = -1;
    private readonly StopWindowTimes _times = new();
    private long _continuedAt;
    private int _stops, _resumes;

    /// <summary>Prepares what will be sent.</summary>
    /// <param name="qmp">The monitor.</param>
    /// <param name="wasRunning">The guest runs now; else it stays as it is, and no events are to be expected.</param>
    /// <param name="cut">Adds the commands that cut the disks; null: there are none.</param>
    /// <param name="stayStopped">The guest is not resumed at the end: <see cref="Keep"/> says that this is wanted, else disposal resumes it.</param>
    internal StopWindow(IQmpMonitor qmp, bool wasRunning, Action<QmpBatch>? cut = null, bool stayStopped = false)
    {
        _qmp = qmp;
        _wasRunning = wasRunning;
        _pipe = new DeviceStatePipe(qmp);
        string save = QmpJson.Object(("filename", _pipe.QemuPath), ("live", false));
        bool whole = qmp.TakesWholeBatches;
        _stays = wasRunning && stayStopped;
        if (wasRunning && stayStopped)
            _mark = StoppedGuestMark.Set(qmp);
        else if (wasRunning && cut is not null && !whole)
            _hold = new GuestHold(qmp);
        if (cut is null && _mark is null)
        {
            _batch.Add(SaveCommand, save);
            return;
        }
        _keepsConnection = whole;
        // By a name and not in a descriptor set: what is removed from a set QEMU closes only while the guest runs (monitor_fdset_cleanup()).
        string connection = QmpJson.Object(("fdname", ConnectionName));
        if (whole)
            _batch.Add("getfd", connection);
        _stop = _batch.Count;
        if (_hold is not null)
            GuestHold.AddTo(_batch);
        else if (wasRunning)
            _batch.AddShort("stop");
        cut?.Invoke(_batch);
        _save = _batch.Count;
        _batch.AddShort(SaveCommand, save);
        if (wasRunning && !stayStopped && whole)
            _batch.AddShort("cont");
        // Its answer goes to whoever is connected then: it bears our id.
        if (whole)
            _batch.Add("closefd", connection);
    }

    /// <summary>Called first when the window gives up: releases the guest's memory.</summary>
    internal Action? Free { get; set; }

    /// <summary>What QEMU wrote: the content of <c>device-state</c>.</summary>
    internal ReadOnlySpan<byte> DeviceState => _pipe.State;

    /// <summary>Times of the window, from QEMU's events, microseconds since 1970; 0 for a guest that was paused.</summary>
    internal long StoppedAt { get; private set; }

    /// <summary>When the guest ran again; 0 for a guest that was paused, or stays stopped.</summary>
    internal long ResumedAt { get; private set; }

    /// <summary>Where the time of the window went; null for a guest that was paused, or stays stopped.</summary>
    internal ManifestStopWindow? Times => _stays ? null : _times.Between(StoppedAt, ResumedAt);

    /// <summary>RAM is protected now.</summary>
    internal void NoteProtected() => _times.ProtectedAt = Clock.NowMicroseconds();

    /// <summary>The storage has cut the disks, for which the guest was held.</summary>
    internal void NoteHeld() => _times.HeldAt = Clock.NowMicroseconds();

    /// <summary>Stops the guest, runs <paramref name="protect"/> in between, and sees that it runs again.</summary>
    /// <param name="maximum">Give up when the window gets longer; zero for no limit.</param>
    /// <param name="protect">Called while nothing writes to guest RAM. What it throws gives up.</param>
    /// <param name="mark">Notes a moment in the timeline.</param>
    /// <exception cref="CaptureFailedException">The window got too long, or QEMU failed; the guest runs.</exception>
    internal void Run(TimeSpan maximum, Action protect, Action<string> mark)
    {
        try
        {
            Pass(maximum, protect, mark);
        }
        catch (QmpException e) when (e.Interrupted)
        {
            GiveUp();
            throw;
        }
    }

    private void Pass(TimeSpan maximum, Action protect, Action<string> mark)
    {
        MigrationWatch.Check(_qmp);
        _ = _qmp.TakeEvents();
        mark("stop-sent");
        _batch.Send(_qmp, _keepsConnection ? _qmp.FileDescriptor : -1);
        TestHooks.After("stop-sent");
        WaitForData(maximum);
        _times.DataAt = Clock.NowMicroseconds();
        mark("stopped");
        TestHooks.After("stopped");
        try
        {
            if (_batch.Failure is { } failure)
                throw new CaptureFailedException("StopWindowFailed", $"QEMU could not fix the point in time: {failure.Message}; the guest runs on", failure);
            protect();
        }
        catch
        {
            GiveUp();
            throw;
        }
        mark("protected");
        TestHooks.After("protected");
        if (_wasRunning && !_stays && maximum > TimeSpan.Zero && SinceStop() > maximum)
        {
            GiveUp();
            throw TooLong(maximum);
        }
        _pipe.Release();
        TestHooks.After("released");
        Collect();
        mark("resumed");
        if (!_stays)
            _mark?.Remove();
        CheckEvents(maximum);
    }

    /// <summary>The guest is to stay stopped: its snapshot is complete.</summary>
    internal void Keep() => _mark?.Remove();

    private void WaitForData(TimeSpan maximum)
    {
        PollFd* polls = stackalloc PollFd[2];
        polls[0] = new PollFd { Fd = _pipe.ReadEnd, Events = Libc.POLLIN };
        polls[1] = new PollFd { Fd = _qmp.FileDescriptor, Events = Libc.POLLIN };
        long deadline = Environment.TickCount64 + (long)Patience.TotalMilliseconds;
        while (true)
        {
            int timeout = (int)Math.Clamp(maximum > TimeSpan.Zero ? maximum.TotalMilliseconds : 100, 1, 100);
            _ = Libc.Poll(polls, 2, timeout);
            if ((polls[0].Revents & Libc.POLLIN) != 0)
            {
                // What was answered before the device state came is known now.
                Poll();
                return;
            }
            if ((polls[1].Revents & (Libc.POLLIN | Libc.POLLHUP)) != 0)
                CheckRefusal();
            if (maximum > TimeSpan.Zero && Stopped() && SinceStop() > maximum)
            {
                GiveUp();
                throw TooLong(maximum);
            }
            if (Environment.TickCount64 > deadline)
            {
                GiveUp();
                throw new CaptureFailedException("StopTimedOut", $"QEMU did not stop the guest and begin to save its devices within {Patience.TotalSeconds:0} s");
            }
        }
    }

    /// <summary>An answer before any data: QEMU could not do it, and its guest runs again already.</summary>
    private void CheckRefusal()
    {
        Poll();
        if (_batch.Answered <= _save)
            return;
        // The pipe may have become readable while we looked; then all is well.
        _pipe.Drain();
        if (_pipe.State.Length > 0)
            return;
        GiveUp();
        throw _batch.Failure is { ErrorClass: "GenericError" } e
            ? new EngineUnavailableException($"QEMU cannot write its device state to our pipe: {e.Message} (no /proc where QEMU runs, or a security policy such as SELinux's forbids it)")
            : _batch.Failure is { } other ? other
            : new CaptureFailedException("DeviceStateMissing", $"QEMU finished {SaveCommand} without writing a device state");
    }

    /// <summary>Reads what QEMU writes until its answers are there.</summary>
    private void Collect()
    {
        PollFd* polls = stackalloc PollFd[2];
        long deadline = Environment.TickCount64 + (long)Patience.TotalMilliseconds;
        while (true)
        {
            long now = Clock.NowMicroseconds();
            Poll();
            if (_continuedAt == 0 && _batch.Answered > _save)
            {
                _continuedAt = now;
                _hold?.Release();
            }
            _pipe.Drain();
            if (_batch.Failure is { } failure)
            {
                GiveUp();
                throw failure.ErrorClass == LibvirtMonitor.Refusal
                    ? new CaptureFailedException("GuestStateChanged", $"{failure.Message}: someone else resumed or ended the guest in the stop window; try again", failure)
                    : failure;
            }
            if (_batch.IsDone)
                return;
            if (Environment.TickCount64 > deadline)
            {
                GiveUp();
                throw new CaptureFailedException("StopTimedOut", $"QEMU did not finish {SaveCommand} within {Patience.TotalSeconds:0} s");
            }
            polls[0] = new PollFd { Fd = _pipe.ReadEnd, Events = Libc.POLLIN };
            polls[1] = new PollFd { Fd = _qmp.FileDescriptor, Events = Libc.POLLIN };
            _ = Libc.Poll(polls, 2, 100);
        }
    }

    /// <summary>
    /// Sets the guest free now. What QEMU writes is taken and thrown away; should that not help, nobody reads any more: its write fails, and it goes on to the
    /// end of what was sent. A write that fails leaves the file open in QEMU (savevm.c does not close it then), so that it is the second choice.
    /// </summary>
    private void GiveUp()
    {
        // QEMU may wait for a page whose server has ended with what ended us.
        Free?.Invoke();
        try
        {
            _pipe.Release();
            if (!Finished(2_000, _pipe.Drain))
            {
                _pipe.Break();
                _ = Finished(10_000, () => { });
            }
        }
        catch (QmpException)
        {
            // QEMU has ended, or libvirt is being restarted: what QEMU has still to write finds room in the pipe.
        }
        _hold?.Release();
        _mark?.ResumeGuest();
    }

    private bool Finished(int milliseconds, Action read)
    {
        for (long end = Environment.TickCount64 + milliseconds; !_batch.IsDone; Thread.Sleep(1))
        {
            if (Environment.TickCount64 > end)
                return false;
            _batch.Poll(_qmp);
            read();
        }
        return true;
    }

    private bool Stopped()
    {
        NoteEvents();
        return StoppedAt != 0;
    }

    private TimeSpan SinceStop() => Stopped() ? TimeSpan.FromMicroseconds(Clock.NowMicroseconds() - StoppedAt) : TimeSpan.Zero;

    private void Poll()
    {
        _batch.Poll(_qmp);
        _times.Answered(_batch.Answered, _stop, _save);
    }

    private void NoteEvents()
    {
        Poll();
        foreach (QmpEvent e in _qmp.TakeEvents(_batch.IsDone))
        {
            switch (e.Name)
            {
                case "STOP":
                    if (_stops++ == 0)
                        StoppedAt = e.Timestamp;
                    break;
                case "RESUME":
                    _resumes++;
                    ResumedAt = e.Timestamp;
                    break;
            }
        }
    }

    /// <summary>The window must have been ours alone: a guest that somebody else resumed or stopped in it has more than one instant.</summary>
    private void CheckEvents(TimeSpan maximum)
    {
        if (!_wasRunning)
            return;
        NoteEvents();
        if (!_qmp.TakesWholeBatches)
            AwaitEvents();
        if (_stops != 1 || _resumes != (_stays ? 0 : 1) || (!_stays && ResumedAt < StoppedAt))
        {
            throw new CaptureFailedException("GuestStateChanged",
                $"QEMU reported {_stops} STOP and {_resumes} RESUME for the stop window: someone else paused, resumed or ended the guest meanwhile; try again");
        }
        if (!_stays && maximum > TimeSpan.Zero && TimeSpan.FromMicroseconds(ResumedAt - StoppedAt) > maximum)
            throw TooLong(maximum);
    }

    /// <summary>libvirt hands events on when it comes to it, maybe after the answer: all of the window are here when its last one is.</summary>
    private void AwaitEvents()
    {
        long last = _save > 0 ? _continuedAt : 1;
        for (long end = Environment.TickCount64 + (long)LateEvents.TotalMilliseconds; (_stays ? _stops == 0 : _stops < 2 && ResumedAt < last) && Environment.TickCount64 < end; NoteEvents())
        {
            PollFd poll = new() { Fd = _qmp.FileDescriptor, Events = Libc.POLLIN };
            _ = Libc.Poll(&poll, 1, 100);
        }
    }

    private static CaptureFailedException TooLong(TimeSpan maximum) => new("DowntimeExceeded",
        $"the stop window would have passed --max-downtime {maximum.TotalMilliseconds:0.###} ms; the guest was resumed and no snapshot was kept");

    /// <inheritdoc/>
    public void Dispose()
    {
        _pipe.Dispose();
        _hold?.Dispose();
        _mark?.ResumeGuest();
    }
}
