using System.Runtime.InteropServices;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// The pipe into which QEMU writes its device state. As long as it holds one page only, QEMU waits in the middle of its write and its
/// guest stays stopped; when its read end is closed, the write fails and QEMU goes on.
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
        // Only those who hold a descriptor of the pipe can name it; QEMU's user may open it again.
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

    /// <summary>
    /// Whether a pipe is one of ours that nobody reads any more: QEMU (savevm.c) does not close it when its write has failed.
    /// </summary>
    /// <param name="link">The descriptor in /proc.</param>
    internal static bool IsBroken(string link)
    {
        try
        {
            using (SafeFileHandle pipe = FileSyscalls.OpenAt(null, link, FileSyscalls.O_PATH))
            {
                // No pipe has these permissions unless it is given them.
                if ((FileSyscalls.Status(pipe, link).Mode & 0xFFF) != Mode)
                    return false;
            }
            // A pipe without a name opens whether somebody reads it or not; poll(2) tells.
            using SafeFileHandle end = FileSyscalls.OpenAt(null, link, FileSyscalls.O_WRONLY | FileSyscalls.O_NONBLOCK);
            PollFd poll = new() { Fd = (int)end.DangerousGetHandle() };
            return Libc.Poll(&poll, 1, 0) == 1 && (poll.Revents & Libc.POLLERR) != 0;
        }
        catch (LinuxException)
        {
            return false; // gone, or not ours to look at
        }
    }

    /// <summary>
    /// Whether QEMU is in the middle of its write: beside the descriptor that it was given it has one that it opened by
    /// <see cref="QemuPath"/>, and closes at the end. For when nobody hands on QEMU's answers.
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
    /// Refuses to go on when QEMU's descriptor has another number now: QEMU closes what is in a set when its last monitor leaves, gives the
    /// number to the next file, and would empty that one and write its devices into it.
    /// </summary>
    /// <exception cref="CaptureFailedException">QEMU does not have our pipe by that number.</exception>
    internal void MustBeQemus(ProcessEntry qemu)
    {
        string? there;
        try
        {
            there = new FileInfo(qemu.At($"fd/{_descriptor}")).LinkTarget;
        }
        catch (UnauthorizedAccessException)
        {
            return; // not ours to look at
        }
        if (there != _link)
        {
            throw new CaptureFailedException(
                "GuestStateChanged",
                $"QEMU closed the pipe for its device state before the point in time (it has {there ?? "nothing"} there): its "
                    + "monitor was left meanwhile; try again"
            );
        }
    }

    /// <summary>The write end, as QEMU names it.</summary>
    internal string QemuPath { get; }

    /// <summary>The read end, for poll(2).</summary>
    internal int ReadEnd => (int)_read.DangerousGetHandle();

    /// <summary>What has been read: in the end, the content of <c>device-state</c>.</summary>
    internal ReadOnlySpan<byte> State => _state.AsSpan(0, _length);

    /// <summary>Makes room, so that QEMU's write goes on.</summary>
    internal void Release()
    {
        if (!_read.IsClosed)
            _ = Pipe.TryEnlarge(_read);
    }

    /// <summary>Ends QEMU's write with an error.</summary>
    internal void Break() => _read.Dispose();

    /// <summary>Reads what is there and never throws; for a window that has failed already.</summary>
    internal void TryDrain()
    {
        try
        {
            if (!_read.IsClosed)
                Drain();
        }
        catch (Exception e) when (e is CaptureFailedException or LinuxException)
        {
            // What it would say is of no matter any more.
        }
    }

    /// <summary>Reads what is there, without waiting.</summary>
    internal void Drain()
    {
        while (true)
        {
            if (_length == _state.Length)
            {
                if (_length >= MaximumDeviceState)
                    throw new CaptureFailedException("DeviceStateTooLarge", $"the device state is larger than {MaximumDeviceState} bytes");
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
