using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Libvirt;
using Bgsnap.Qemu.Qmp;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// The stop window: stops the guest, cuts its disks, has QEMU save its devices, and write-protects the guest's memory while a full pipe
/// holds QEMU in the middle of that save.
/// </summary>
/// <remarks>
/// <code>
///   agent                                                 QEMU
///   without disks, one command:
///   xen-save-devices-state {live:false} ────────────────▶ vm_stop(): vCPUs stopped, requests drained     STOP
///   with disks, a guest that runs, a socket of our own, one write:
///   getfd (this connection), stop, disks, ──────────────▶ each in turn                                   STOP
///     xen-save-devices-state, cont, closefd
///   with disks, through libvirt or of a guest that stands still:
///   dump-guest-memory, disks, ──────────────────────────▶ each in turn                                   STOP
///     xen-save-devices-state
///
///   pipe readable ◀────────────────────────────────────── device state, until the pipe (one page) is full
///   write-protect guest RAM                               blocked in write(2)
///   F_SETPIPE_SZ 1 MiB ─────────────────────────────────▶ writes the rest; without disks vm_start()      RESUME
///   read the pipe ◀──────────────────────────────────────
///   with a dump: close its pipe ────────────────────────▶ vm_start()                                     RESUME
/// </code>
/// If the agent dies, the read ends close, QEMU's writes fail, and the guest returns to the state it had: QEMU remembers whether the guest
/// ran when it stopped it (<see cref="IGuestStop"/>). With one write, QEMU holds a duplicate of the agent's end of the monitor connection.
/// The connection therefore stays open if the agent dies, and QEMU executes everything that was sent, <c>cont</c> included.
/// A dump holds a running guest only where one write is not possible: if a guest is reset while QEMU dumps (or saves), QEMU aborts
/// ("invalid runstate transition: 'save-vm' -> 'prelaunch'", 7.2 and 10), whereas a stopped guest may be reset. So the agent asks for the
/// run state right before the write. If a user pauses the guest in between, the events show it, and the agent restores the pause.
/// QEMU's events prove from when to when the guest stood still (<see cref="WindowEvents"/>); what the agent knew before proves nothing.
/// Over its own socket the agent sends everything in one write; through libvirt it sends each command after the answer to the one before.
/// </remarks>
internal sealed unsafe partial class StopWindow : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    /// <summary>How long a guest may be stopped if the operator set no limit. A window takes milliseconds: beyond this something is
    /// wrong.</summary>
    private static readonly TimeSpan OwnLimit = TimeSpan.FromSeconds(10);

    private readonly IQmpMonitor _qmp;
    private readonly CheckedProcess _process;
    private readonly MachineFacts _facts;
    private readonly DeviceStatePipe _pipe;
    private readonly WindowPlan _prepared;
    private readonly WindowPlan? _oneWrite;
    private readonly bool _expectsRunning;
    private WindowPlan _plan;
    private readonly StopWindowTimes _times = new();
    private readonly WindowEvents _events = new();
    private readonly WindowClock _clock = new();
    private long _sentAt;
    private bool _over;

    /// <summary>Prepares the commands that the window will send.</summary>
    /// <param name="qmp">The monitor.</param>
    /// <param name="process">QEMU's process.</param>
    /// <param name="facts">Receives every event of the machine until the window ends.</param>
    /// <param name="cut">Adds the commands that cut the disks; null: no disk is cut.</param>
    /// <param name="stayStopped">The guest is not resumed at the end: <see cref="Keep"/> confirms that; otherwise disposal resumes the
    /// guest.</param>
    /// <param name="hold">QEMU holds the guest in any case, even where saving the devices already holds it.</param>
    internal StopWindow(IQmpMonitor qmp, CheckedProcess process, MachineFacts facts, Action<QmpBatch>? cut, bool stayStopped, bool hold)
    {
        (_qmp, _process, _facts) = (qmp, process, facts);
        // A hint for limits and for how long to wait for events; the window itself finds out what state the guest was in.
        _expectsRunning = qmp.IsRunning();
        _pipe = new DeviceStatePipe(qmp);
        _prepared = _plan = WindowPlan.Prepared(
            stayStopped ? new PermanentStop(qmp)
                : cut is not null || hold ? new GuestHold(qmp)
                : new SaveStop(),
            cut,
            _pipe.QemuPath
        );
        if (cut is not null && !stayStopped && !hold && qmp.TakesWholeBatches)
            _oneWrite = WindowPlan.OneWrite(cut, _pipe.QemuPath);
    }

    /// <summary>Called first when the window gives up: releases the guest's memory.</summary>
    internal Action? Free { get; set; }

    /// <summary>What QEMU wrote: the content of <c>device-state</c>.</summary>
    internal ReadOnlySpan<byte> DeviceState => _pipe.State;

    /// <summary>The guest was paused before the capture.</summary>
    internal bool FoundPaused { get; private set; }

    /// <summary>When QEMU stopped the guest, from its events, microseconds since 1970; 0 for a guest that was paused.</summary>
    internal long StoppedAt => FoundPaused ? 0 : _events.StoppedAt;

    /// <summary>When the guest ran again; 0 for a guest that was paused or stays stopped.</summary>
    internal long ResumedAt => FoundPaused || _plan.Stop.Lasts ? 0 : _events.ResumedAt;

    /// <summary>Where the time of the window went; null for a guest that was paused or stays stopped.</summary>
    internal ManifestStopWindow? Times => _plan.Stop.Lasts || FoundPaused ? null : _times.Between(StoppedAt, ResumedAt);

    /// <summary>Records that RAM is protected now.</summary>
    internal void NoteProtected()
    {
        _times.ProtectedAt = Clock.NowMicroseconds();
        _events.Protected(_times.ProtectedAt);
    }

    /// <summary>Records that the storage has cut the disks, for which the guest was held.</summary>
    internal void NoteHeld() => _times.HeldAt = Clock.NowMicroseconds();

    /// <summary>Stops the guest, runs <paramref name="protect"/> meanwhile, and makes sure that the guest has its state again.</summary>
    /// <param name="maximum">Give up when the window takes longer; zero if the caller sets no limit.</param>
    /// <param name="protect">Called while nothing writes to guest RAM. If it throws, the window gives up.</param>
    /// <param name="mark">Records a moment in the timeline.</param>
    /// <exception cref="CaptureFailedException">The window took too long, the guest changed state in it, or QEMU failed; the guest has its
    /// state again.</exception>
    internal void Run(TimeSpan maximum, Action protect, Action<string> mark)
    {
        try
        {
            Send(mark);
            WaitForData(maximum);
            _times.DataAt = Clock.NowMicroseconds();
            mark("stopped");
            TestHooks.After("stopped");
            CheckCut();
            protect();
            mark("protected");
            TestHooks.After("protected");
            CheckStill(maximum);
            _pipe.Release();
            TestHooks.After("released");
            Collect(maximum);
            mark("resumed");
            Settle(maximum);
        }
        catch
        {
            GiveUp();
            throw;
        }
    }

    /// <summary>Lets the guest stay stopped, because its snapshot is complete.</summary>
    internal void Keep() => _plan.Stop.Keep();

    private void Send(Action<string> mark)
    {
        MigrationWatch.Check(_qmp);
        NoteEvents();
        if (_facts.IsSuspended)
            throw Suspended();
        _plan.Stop.Arm();
        if (_oneWrite is not null && _qmp.IsRunning())
            _plan = _oneWrite;
        TestHooks.After("armed");
        _sentAt = _clock.Begin();
        _pipe.MustBeQemus(_process);
        _events.Begin(_sentAt);
        mark("stop-sent");
        _plan.Commands.Send(_qmp, _plan.HandsOverConnection ? _qmp.FileDescriptor : -1);
        TestHooks.After("stop-sent");
    }

    private void WaitForData(TimeSpan maximum)
    {
        PollFd* polls = stackalloc PollFd[2];
        polls[0] = new PollFd { Fd = _pipe.ReadEnd, Events = Libc.POLLIN };
        long deadline = Environment.TickCount64 + (long)Patience.TotalMilliseconds;
        while (true)
        {
            polls[1] = new PollFd { Fd = _qmp.FileDescriptor, Events = Libc.POLLIN };
            int timeout = (int)Math.Clamp(maximum > TimeSpan.Zero ? maximum.TotalMilliseconds : 100, 1, 100);
            _ = Libc.Poll(polls, 2, timeout);
            if ((polls[0].Revents & Libc.POLLIN) != 0)
            {
                // Everything QEMU answered before the device state arrived is known now.
                NoteEvents();
                return;
            }
            if ((polls[1].Revents & (Libc.POLLIN | Libc.POLLHUP)) != 0)
                CheckRefusal();
            CheckLength(maximum);
            if (Environment.TickCount64 > deadline)
            {
                throw new CaptureFailedException(
                    Reasons.StopTimedOut,
                    $"{Silent()} did not stop the guest and begin to save its devices within {Patience.TotalSeconds:0} s"
                );
            }
        }
    }

    /// <summary>Checks for an answer before any data: QEMU could not save, and the guest already has its state again.</summary>
    private void CheckRefusal()
    {
        NoteEvents();
        if (_plan.Commands.Answered <= _plan.SaveAt)
            return;
        // The pipe may have become readable since the poll; then all is well.
        _pipe.Drain();
        if (_pipe.State.Length > 0)
            return;
        throw _plan.Commands.Failure is { ErrorClass: "GenericError" } e
            ? new EngineUnavailableException(
                $"QEMU cannot write its device state to our pipe: {e.Message} (no /proc where QEMU runs, or a security policy such "
                    + "as SELinux's forbids it)"
            )
        : _plan.Commands.Failure is { } other ? other
        : new CaptureFailedException(Reasons.DeviceStateMissing, $"QEMU finished {WindowPlan.SaveCommand} without writing a device state");
    }

    private void CheckCut()
    {
        if (_plan.Commands.Failure is { } failure)
        {
            throw new CaptureFailedException(Reasons.StopWindowFailed, $"QEMU could not fix the point in time: {failure.Message}", failure);
        }
    }

    /// <summary>After memory is protected: checks that the guest has stood still until now, and not for too long.</summary>
    private void CheckStill(TimeSpan maximum)
    {
        NoteEvents();
        // Only this command held the guest: it may have run while its memory was being protected.
        if (!_plan.Stop.Holds && !_plan.Stop.Lasts && _plan.Commands.Answered > _plan.SaveAt)
            throw RanTooEarly();
        CheckMoved();
        CheckLength(maximum);
    }

    /// <summary>Reads what QEMU writes until QEMU has answered every command.</summary>
    private void Collect(TimeSpan maximum)
    {
        PollFd* polls = stackalloc PollFd[2];
        long deadline = Environment.TickCount64 + (long)Patience.TotalMilliseconds;
        while (true)
        {
            NoteEvents();
            if (_plan.Commands.Answered > _plan.SaveAt)
                _plan.Stop.Release();
            _pipe.Drain();
            if (_plan.Commands.Failure is { } failure)
            {
                throw failure.ErrorClass == LibvirtMonitor.Refusal
                    ? new CaptureFailedException(
                        Reasons.GuestStateChanged,
                        $"{failure.Message}: someone else resumed or ended the guest in the stop window; try again",
                        failure
                    )
                    : failure;
            }
            if (_plan.Commands.IsDone)
                return;
            if (_plan.Stop.Holds)
                CheckLength(maximum);
            if (Environment.TickCount64 > deadline)
                throw new CaptureFailedException(
                    Reasons.StopTimedOut,
                    $"{Silent()} did not finish {WindowPlan.SaveCommand} within {Patience.TotalSeconds:0} s"
                );
            polls[0] = new PollFd { Fd = _pipe.ReadEnd, Events = Libc.POLLIN };
            polls[1] = new PollFd { Fd = _qmp.FileDescriptor, Events = Libc.POLLIN };
            _ = Libc.Poll(polls, 2, 100);
        }
    }

    /// <summary>
    /// How long the guest has been stopped, at most. Over a socket of its own the agent sees QEMU's STOP at once and counts from there;
    /// libvirt may deliver STOP late, so there it counts from when the agent sent the stop.
    /// </summary>
    private TimeSpan SinceStop() =>
        !_qmp.TakesWholeBatches ? (_expectsRunning && _sentAt != 0 ? _clock.SinceBegin : TimeSpan.Zero)
        : _events.StoppedAt != 0 ? _clock.Since(_events.StoppedAt)
        : TimeSpan.Zero;

    private void CheckLength(TimeSpan maximum)
    {
        NoteEvents();
        if (_plan.Stop.Lasts)
            return;
        TimeSpan since = SinceStop();
        if (maximum > TimeSpan.Zero && since > maximum)
            throw TooLong(maximum);
        if (maximum == TimeSpan.Zero && since > OwnLimit && _times.HeldAt == 0)
        {
            throw new CaptureFailedException(
                Reasons.StopTimedOut,
                $"{Silent()} kept the guest stopped for more than {OwnLimit.TotalSeconds:0} s; no snapshot was kept"
            );
        }
    }

    private string Silent() => _qmp.TakesWholeBatches ? "QEMU" : "libvirt, through which QEMU is reached,";

    private void CheckMoved()
    {
        // Of an event that looks older than our stop, nobody can say whether it happened in the window.
        if (_clock.IsSetBack)
        {
            throw new CaptureFailedException(
                Reasons.GuestStateChanged,
                "the host's clock was set back in the stop window, and QEMU's events do not tell what happened in it; try again"
            );
        }
        if (_events.Moved is not { } what)
            return;
        _pipe.TryDrain();
        if (what == "RESUME" && !_plan.Stop.Holds && !_plan.Stop.Lasts && _pipe.State.Length <= Environment.SystemPageSize)
            throw RanTooEarly();
        throw new CaptureFailedException(
            Reasons.GuestStateChanged,
            $"QEMU reported {what} between the stop of the guest and the protection of its memory: "
                + "someone else paused, resumed or reset it meanwhile; try again"
        );
    }

    private static CaptureFailedException RanTooEarly() =>
        new(
            Reasons.DeviceStateSmall,
            "QEMU's device state is so small that it was saved, and the guest resumed, before the guest's memory was protected"
        );

    private void NoteEvents()
    {
        if (_sentAt != 0)
        {
            _plan.Commands.Poll(_qmp);
            _times.Answered(_plan.Commands.Answered, _plan.SaveAt > 0 ? _plan.StopAt : -1, _plan.SaveAt);
        }
        foreach (QmpEvent e in _qmp.TakeEvents(_sentAt == 0 || _plan.Commands.IsDone))
        {
            _events.Note(e);
            _facts.Note(e);
        }
    }

    private CaptureFailedException TooLong(TimeSpan maximum) =>
        new(
            Reasons.DowntimeExceeded,
            $"the stop window would have passed --max-downtime {maximum.TotalMilliseconds:0.###} ms"
                + (_plan.Commands.IsDone ? "" : $", while {Silent()} had not answered {_plan.Commands.Unanswered().Name}")
                + "; no snapshot was kept"
        );

    /// <inheritdoc/>
    public void Dispose()
    {
        // Whatever disposal waits for, the guest does not wait for it.
        _plan.Dispose();
        if (_plan != _prepared)
            _prepared.Dispose();
        _pipe.Dispose();
    }
}
