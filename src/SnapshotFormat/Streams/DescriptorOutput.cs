using System.ComponentModel;
using System.Runtime.InteropServices;
using Bgsnap.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>
/// Writes to a descriptor: a file, a pipe, a unix socket. The descriptor stays open.
/// </summary>
/// <remarks>
/// A pipe or socket is made non-blocking meanwhile, so that we notice a cancellation even if QEMU has stopped reading. The flag belongs to
/// the open file, not to our descriptor; it is restored at the end.
/// </remarks>
internal sealed unsafe class DescriptorOutput : StreamOutput
{
    private const int PollMilliseconds = 200;

    // One write to a regular file must not delay a cancellation for long either.
    private const int LargestWrite = 4 << 20;

    private readonly SafeFileHandle _handle;
    private readonly CancellationToken _cancellationToken;
    private readonly int _flags;

    public DescriptorOutput(SafeFileHandle handle, CancellationToken cancellationToken)
    {
        _handle = handle;
        _cancellationToken = cancellationToken;

        _ = Pipe.TryEnlarge(handle);
        _flags = Libc.Fcntl(handle, Libc.F_GETFL, 0);
        if (_flags < 0)
            throw Error(Marshal.GetLastPInvokeError());
        if ((_flags & Libc.O_NONBLOCK) == 0)
            _ = Libc.Fcntl(handle, Libc.F_SETFL, _flags | Libc.O_NONBLOCK);
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        if ((_flags & Libc.O_NONBLOCK) == 0 && !_handle.IsClosed)
            _ = Libc.Fcntl(_handle, Libc.F_SETFL, _flags);
    }

    /// <inheritdoc/>
    protected override void WriteThrough(ReadOnlySpan<byte> data)
    {
        // SAFETY: write(2) reads at most the length that it is given, from the pinned span.
        fixed (byte* start = data)
        {
            int done = 0;
            while (done < data.Length)
            {
                _cancellationToken.ThrowIfCancellationRequested();
                nint written = Libc.Write(_handle, start + done, (nuint)Math.Min(data.Length - done, LargestWrite));
                if (written > 0)
                {
                    done += (int)written;
                    continue;
                }
                int errno = written == 0 ? Errno.ENOSPC : Marshal.GetLastPInvokeError();
                if (errno == Errno.EAGAIN)
                    WaitUntilWritable();
                else if (errno != Errno.EINTR)
                    throw Error(errno, done);
            }
        }
    }

    private void WaitUntilWritable()
    {
        bool held = false;
        try
        {
            _handle.DangerousAddRef(ref held);
            var poll = new PollFd { Fd = (int)_handle.DangerousGetHandle(), Events = Libc.POLLOUT };
            // SAFETY: one pollfd, on the stack. A hang-up or an error also ends the wait; the next write names it.
            _ = Libc.Poll(&poll, 1, PollMilliseconds);
        }
        finally
        {
            if (held)
                _handle.DangerousRelease();
        }
    }

    private MigrationStreamException Error(int errno, int done = 0)
    {
        string reason = errno switch
        {
            Errno.EPIPE or Errno.ECONNRESET => "its reader closed it before the end (QEMU says on its standard error why)",
            Errno.ENOSPC or Errno.EDQUOT => "no space is left",
            Errno.EFBIG => "the file would be larger than allowed",
            _ => Marshal.GetPInvokeErrorMessage(errno),
        };
        return new MigrationStreamException(
            $"The migration stream could not be written: {reason}",
            SentBytes + done,
            new Win32Exception(errno)
        );
    }
}
