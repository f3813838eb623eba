using System.Runtime.InteropServices;
using System.Text.Json;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// The stop window: one QMP command that stops the guest, saves its devices and resumes it, held open by a full pipe while we
/// protect its memory.
/// </summary>
/// <remarks>
/// <code>
///   agent                                            QEMU
///   xen-save-devices-state {live:false, fdset} ────▶ vm_stop(): vCPUs stopped, requests drained     STOP
///   pipe readable ◀───────────────────────────────── device state, until the pipe (one page) is full
///   write-protect guest RAM                           blocked in write(2)
///   F_SETPIPE_SZ 1 MiB ────────────────────────────▶ writes the rest, vm_start()                     RESUME
///   read the pipe ◀─────────────────────────────────
/// </code>
/// There is no <c>cont</c> that could be lost: qmp_xen_save_devices_state() (QEMU's migration/savevm.c) itself resumes a guest
/// that was running, whatever becomes of the file. If we die, are killed or give up, the read end closes, the
/// write fails and the guest runs. A guest that was paused stays paused.
/// </remarks>
internal sealed unsafe class StopWindow : IDisposable
{
    private const string Command = "xen-save-devices-state";
    private const int MaximumDeviceState = 1 << 30;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly QmpClient _qmp;
    private readonly SafeFileHandle _read;
    private readonly int _fdset;
    private readonly byte[] _command;
    private byte[] _state = new byte[1 << 20];
    private int _length;
    private bool _removed;

    internal StopWindow(QmpClient qmp)
    {
        _qmp = qmp;
        Pipe pipe = Pipe.Create();
        _read = pipe.Read;
        using SafeFileHandle write = pipe.Write;
        Pipe.Shrink(_read);
        _ = Libc.Fcntl(_read, Libc.F_SETFL, Libc.O_NONBLOCK);
        // Only those who hold a descriptor of the pipe can name it; QEMU's user may open it anew.
        int writeEnd = (int)write.DangerousGetHandle();
        if (Libc.FChMod(writeEnd, 0x192 /* 0622 */) != 0)
            throw LinuxException.Last("fchmod of the pipe");
        using JsonDocument added = qmp.Execute("add-fd", QmpJson.Object(("opaque", UserfaultfdSource.Opaque)), writeEnd);
        JsonElement result = added.RootElement.GetProperty("return");
        _fdset = result.GetProperty("fdset-id").GetInt32();
        // Not /dev/fdset/N: QEMU truncates what it opens there, which a pipe does not take; open(2) ignores it.
        _command = QmpClient.Prepare(Command, QmpJson.Object(("filename", $"/proc/self/fd/{result.GetProperty("fd").GetInt32()}"), ("live", false)));
    }

    /// <summary>What QEMU wrote: the content of <c>device-state</c>.</summary>
    internal ReadOnlySpan<byte> DeviceState => _state.AsSpan(0, _length);

    /// <summary>Times of the window, from QEMU's events, microseconds since 1970; 0 for a guest that was paused.</summary>
    internal long StoppedAt { get; private set; }

    /// <summary>When the guest ran again; 0 for a guest that was paused.</summary>
    internal long ResumedAt { get; private set; }

    /// <summary>Stops the guest, runs <paramref name="protect"/> in between, and sees that it runs again.</summary>
    /// <param name="wasRunning">The guest ran before; else no events are to be expected.</param>
    /// <param name="maximum">Give up when the window gets longer; zero for no limit.</param>
    /// <param name="protect">Called while nothing writes to guest RAM.</param>
    /// <param name="mark">Notes a moment in the timeline.</param>
    /// <exception cref="CaptureFailedException">The window got too long, or QEMU failed; the guest runs.</exception>
    internal void Run(bool wasRunning, TimeSpan maximum, Action protect, Action<string> mark)
    {
        _ = _qmp.TakeEvents();
        mark("stop-sent");
        _qmp.SendPrepared(_command);
        TestHooks.After("stop-sent");
        WaitForData(maximum);
        mark("stopped");
        TestHooks.After("stopped");
        try
        {
            protect();
        }
        catch
        {
            GiveUp();
            throw;
        }
        mark("protected");
        TestHooks.After("protected");
        if (wasRunning && maximum > TimeSpan.Zero && SinceStop() > maximum)
        {
            GiveUp();
            throw TooLong(maximum);
        }
        _ = Pipe.TryEnlarge(_read);
        TestHooks.After("released");
        Collect();
        mark("resumed");
        if (wasRunning)
            CheckEvents(maximum);
    }

    private void WaitForData(TimeSpan maximum)
    {
        PollFd* polls = stackalloc PollFd[2];
        polls[0] = new PollFd { Fd = (int)_read.DangerousGetHandle(), Events = Libc.POLLIN };
        polls[1] = new PollFd { Fd = _qmp.FileDescriptor, Events = Libc.POLLIN };
        long deadline = Environment.TickCount64 + (long)Patience.TotalMilliseconds;
        while (true)
        {
            int timeout = (int)Math.Clamp(maximum > TimeSpan.Zero ? maximum.TotalMilliseconds : 100, 1, 100);
            _ = Libc.Poll(polls, 2, timeout);
            if ((polls[0].Revents & Libc.POLLIN) != 0)
                return;
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
        try
        {
            using JsonDocument? answer = _qmp.TryReadAnswer(Command);
            if (answer is not null)
                throw new CaptureFailedException("DeviceStateMissing", $"QEMU finished {Command} without writing a device state");
        }
        catch (QmpException e) when (e.ErrorClass == "GenericError")
        {
            throw new EngineUnavailableException($"QEMU cannot write its device state to our pipe: {e.Message} (no /proc where QEMU runs, or a security policy such as SELinux's forbids it)");
        }
    }

    /// <summary>Reads what QEMU writes until its answer is there.</summary>
    private void Collect()
    {
        PollFd* polls = stackalloc PollFd[2];
        long deadline = Environment.TickCount64 + (long)Patience.TotalMilliseconds;
        while (true)
        {
            using JsonDocument? answer = _qmp.TryReadAnswer(Command);
            Drain();
            if (answer is not null)
                return;
            if (Environment.TickCount64 > deadline)
            {
                GiveUp();
                throw new CaptureFailedException("StopTimedOut", $"QEMU did not finish {Command} within {Patience.TotalSeconds:0} s");
            }
            polls[0] = new PollFd { Fd = (int)_read.DangerousGetHandle(), Events = Libc.POLLIN };
            polls[1] = new PollFd { Fd = _qmp.FileDescriptor, Events = Libc.POLLIN };
            _ = Libc.Poll(polls, 2, 100);
        }
    }

    private void Drain()
    {
        while (true)
        {
            if (_length == _state.Length)
            {
                if (_length >= MaximumDeviceState)
                    throw new CaptureFailedException("DeviceStateTooLarge", $"the device state is larger than {MaximumDeviceState} bytes");
                Array.Resize(ref _state, _length * 2);
            }
            fixed (byte* p = &_state[_length])
            {
                nint got = Libc.Read((int)_read.DangerousGetHandle(), p, (nuint)(_state.Length - _length));
                if (got > 0)
                    _length += (int)got;
                else if (got == 0 || Marshal.GetLastPInvokeError() == Errno.EAGAIN)
                    return;
                else if (Marshal.GetLastPInvokeError() != Errno.EINTR)
                    throw LinuxException.Last("read the device state");
            }
        }
    }

    /// <summary>Sets the guest free now: with nobody to read, QEMU's write fails and it resumes the guest.</summary>
    private void GiveUp()
    {
        _read.Dispose();
        try
        {
            for (long end = Environment.TickCount64 + 10_000; Environment.TickCount64 < end; Thread.Sleep(1))
            {
                using JsonDocument? answer = _qmp.TryReadAnswer(Command);
                if (answer is not null)
                    return;
            }
        }
        catch (QmpException)
        {
            // The expected answer: its file broke. What the guest does now is QEMU's own resume.
        }
    }

    private bool Stopped()
    {
        foreach (QmpEvent e in _qmp.TakeEvents())
        {
            if (e.Name == "STOP")
                StoppedAt = e.Timestamp;
        }
        return StoppedAt != 0;
    }

    private TimeSpan SinceStop() => StoppedAt != 0 || Stopped() ? TimeSpan.FromMicroseconds(Clock.NowMicroseconds() - StoppedAt) : TimeSpan.Zero;

    private void CheckEvents(TimeSpan maximum)
    {
        foreach (QmpEvent e in _qmp.TakeEvents())
        {
            if (e.Name == "STOP" && StoppedAt == 0)
                StoppedAt = e.Timestamp;
            else if (e.Name == "RESUME")
                ResumedAt = e.Timestamp;
        }
        if (StoppedAt == 0 || ResumedAt < StoppedAt)
            throw new CaptureFailedException("GuestStateChanged", "QEMU did not report STOP and RESUME for the stop window: someone else paused or ended the guest meanwhile");
        if (maximum > TimeSpan.Zero && TimeSpan.FromMicroseconds(ResumedAt - StoppedAt) > maximum)
            throw TooLong(maximum);
    }

    private static CaptureFailedException TooLong(TimeSpan maximum) => new("DowntimeExceeded",
        $"the stop window would have passed --max-downtime {maximum.TotalMilliseconds:0.###} ms; the guest was resumed and no snapshot was kept");

    /// <inheritdoc/>
    public void Dispose()
    {
        _read.Dispose();
        if (_removed)
            return;
        _removed = true;
        try
        {
            _qmp.Execute("remove-fd", QmpJson.Object(("fdset-id", _fdset))).Dispose();
        }
        catch (QmpException)
        {
            // QEMU is gone, and the descriptor with it.
        }
    }
}
