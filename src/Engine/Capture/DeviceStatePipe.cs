using System.Runtime.InteropServices;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// The pipe into which QEMU writes its device state. While it holds only one page, QEMU waits in the middle of its write and the guest
/// stays stopped. When the read end is closed, the write fails and QEMU continues.
/// </summary>
internal sealed unsafe class DeviceStatePipe : IDisposable
{
    private const int MaximumDeviceState = 1 << 30;
    private const uint Mode = 0x192; // 0622
    private readonly IQmpMonitor _qmp;
    private readonly SafeFileHandle _read;
    private readonly int _fdset;
    private readonly int _descriptor;
    private readonly string? _link;
    private byte[] _state = new byte[1 << 20];
    private int _length;
    private bool _removed;

    internal DeviceStatePipe(IQmpMonitor qmp)
    {
        _qmp = qmp;
        Pipe pipe = Pipe.Create();
        _read = pipe.Read;
        using SafeFileHandle write = pipe.Write;
        Pipe.Shrink(_read);
        _ = Libc.Fcntl(_read, Libc.F_SETFL, Libc.O_NONBLOCK);
        // Only a process that holds a descriptor of the pipe can name it; QEMU's user may open it again.
        int writeEnd = (int)write.DangerousGetHandle();
        _link = new FileInfo($"/proc/self/fd/{writeEnd}").LinkTarget;
        if (Libc.FChMod(writeEnd, Mode) != 0)
            throw LinuxException.Last("fchmod of the pipe");
        using QmpAnswer added = qmp.Execute("add-fd", QmpJson.Object(("opaque", UserfaultfdSource.Opaque)), writeEnd);
        QmpValue result = added.Return;
        _fdset = result.GetProperty("fdset-id").GetInt32();
        // Not /dev/fdset/N: QEMU truncates what it opens there, which a pipe does not take; open(2) ignores it.
        _descriptor = result.GetProperty("fd").GetInt32();
        QemuPath = $"/proc/self/fd/{_descriptor}";
    }

    /// <summary>Whether a pipe is one of ours without a reader: QEMU (savevm.c) does not close it when its write has failed.</summary>
    /// <param name="link">The descriptor in /proc.</param>
    internal static bool IsBroken(string link)
    {
        try
        {
            using (SafeFileHandle pipe = FileSyscalls.OpenAt(null, link, FileSyscalls.O_PATH))
            {
                // A pipe has these permissions only if they were set explicitly.
                if ((FileSyscalls.Status(pipe, link).Mode & 0xFFF) != Mode)
                    return false;
            }
            // A pipe without a name can be opened whether it has a reader or not; poll(2) shows the difference.
            using SafeFileHandle end = FileSyscalls.OpenAt(null, link, FileSyscalls.O_WRONLY | FileSyscalls.O_NONBLOCK);
            PollFd poll = new() { Fd = (int)end.DangerousGetHandle() };
            return Libc.Poll(&poll, 1, 0) == 1 && (poll.Revents & Libc.POLLERR) != 0;
        }
        catch (LinuxException)
        {
            return false; // gone, or not accessible to us
        }
    }

    /// <summary>
    /// Whether QEMU is in the middle of its write. Besides the descriptor that it was given, QEMU then has one that it opened through
    /// <see cref="QemuPath"/> and closes at the end. Used when QEMU's answers cannot reach the agent.
    /// </summary>
    /// <param name="qemu">QEMU.</param>
    internal bool IsBeingWritten(ProcessEntry qemu)
    {
        try
        {
            return qemu.Descriptors().Count(f => new FileInfo(f).LinkTarget == _link) > 1;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false; // it has ended
        }
    }

    /// <summary>
    /// Refuses to continue if QEMU's descriptor has a different number now. QEMU closes the descriptors in a set when its last monitor
    /// disconnects, and reuses the number for the next file: it would truncate that file and write its devices into it.
    /// </summary>
    /// <exception cref="CaptureFailedException">The number does not name our pipe in QEMU.</exception>
    internal void MustBeQemus(ProcessEntry qemu)
    {
        string? there;
        try
        {
            there = new FileInfo(qemu.At($"fd/{_descriptor}")).LinkTarget;
        }
        catch (UnauthorizedAccessException)
        {
            return; // not accessible to us
        }
        if (there != _link)
        {
            throw new CaptureFailedException(
                Reasons.GuestStateChanged,
                $"QEMU closed the pipe for its device state before the point in time (it has {there ?? "nothing"} there): its "
                    + "monitor connection ended meanwhile; try again"
            );
        }
    }

    /// <summary>The path by which QEMU opens the write end.</summary>
    internal string QemuPath { get; }

    /// <summary>The read end, for poll(2).</summary>
    internal int ReadEnd => (int)_read.DangerousGetHandle();

    /// <summary>What has been read so far; at the end, the content of <c>device-state</c>.</summary>
    internal ReadOnlySpan<byte> State => _state.AsSpan(0, _length);

    /// <summary>Enlarges the pipe, so that QEMU's write continues.</summary>
    internal void Release()
    {
        if (!_read.IsClosed)
            _ = Pipe.TryEnlarge(_read);
    }

    /// <summary>Makes QEMU's write fail.</summary>
    internal void Break() => _read.Dispose();

    /// <summary>Reads the available data and never throws; for a window that has already failed.</summary>
    internal void TryDrain()
    {
        try
        {
            if (!_read.IsClosed)
                Drain();
        }
        catch (Exception e) when (e is CaptureFailedException or LinuxException)
        {
            // The error no longer matters.
        }
    }

    /// <summary>Reads the available data without waiting.</summary>
    internal void Drain()
    {
        while (true)
        {
            if (_length == _state.Length)
            {
                if (_length >= MaximumDeviceState)
                    throw new CaptureFailedException(
                        Reasons.DeviceStateTooLarge,
                        "the device state is larger than " + $"{MaximumDeviceState} bytes"
                    );
                Array.Resize(ref _state, _length * 2);
            }
            // SAFETY: pinned for the call, filled within its length.
            fixed (byte* p = &_state[_length])
            {
                nint got = Libc.Read(ReadEnd, p, (nuint)(_state.Length - _length));
                if (got > 0)
                    _length += (int)got;
                else if (got == 0 || Marshal.GetLastPInvokeError() == Errno.EAGAIN)
                    return;
                else if (Marshal.GetLastPInvokeError() != Errno.EINTR)
                    throw LinuxException.Last("read the device state");
            }
        }
    }

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
