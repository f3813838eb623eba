using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux;

/// <summary>A handle on a process that cannot be mistaken for a later one with the same number: pidfd_open(2).</summary>
internal sealed class PidFd : IDisposable
{
    private const long SysPidfdSendSignal = 424,
        SysPidfdOpen = 434,
        SysPidfdGetfd = 438;
    private readonly SafeFileHandle _handle;

    private readonly int _pid;

    private PidFd(SafeFileHandle handle, int pid) => (_handle, _pid) = (handle, pid);

    /// <summary>For poll(2), where it is readable once the process has ended, and for process_madvise(2).</summary>
    internal int FileDescriptor => (int)_handle.DangerousGetHandle();

    /// <exception cref="LinuxException">ESRCH: no such process.</exception>
    internal static PidFd Open(int pid)
    {
        long fd = Libc.Syscall(SysPidfdOpen, pid, 0, 0, 0, 0, 0);
        return fd >= 0 ? new PidFd(new SafeFileHandle((nint)fd, true), pid) : throw LinuxException.Last($"pidfd_open {pid}");
    }

    /// <summary>A copy of one of the process's descriptors in this process: pidfd_getfd(2).</summary>
    /// <exception cref="LinuxException">EBADF: the process has no such descriptor; EPERM: ptrace is denied.</exception>
    internal SafeFileHandle GetDescriptor(int target)
    {
        long fd = Libc.Syscall(SysPidfdGetfd, _handle.DangerousGetHandle(), target, 0, 0, 0, 0);
        return fd >= 0 ? new SafeFileHandle((nint)fd, true) : throw LinuxException.Last($"pidfd_getfd {target}");
    }

    /// <summary>Sends a signal if the process has not ended: pidfd_send_signal(2).</summary>
    internal void Signal(int signal)
    {
        bool held = false;
        try
        {
            // If the handle is disposed at the same moment, its number may belong to another descriptor.
            _handle.DangerousAddRef(ref held);
            _ = Libc.Syscall(SysPidfdSendSignal, _handle.DangerousGetHandle(), signal, 0, 0, 0, 0);
        }
        catch (ObjectDisposedException)
        {
            // Its owner has already waited for its end.
        }
        finally
        {
            if (held)
                _handle.DangerousRelease();
        }
    }

    /// <summary>Whether the process has ended.</summary>
    internal unsafe bool HasEnded()
    {
        PollFd poll = new() { Fd = FileDescriptor, Events = Libc.POLLIN };
        // SAFETY: one element, on our stack.
        return Libc.Poll(&poll, 1, 0) == 1;
    }

    /// <summary>
    /// Call this before and after something that knows the process only by its number: if the process has not ended in between, the number
    /// was its own.
    /// </summary>
    /// <exception cref="LinuxException">ESRCH: the process has ended.</exception>
    internal void ThrowIfEnded()
    {
        if (HasEnded())
            throw new LinuxException($"process {_pid} has ended", Errno.ESRCH);
    }

    /// <inheritdoc/>
    public void Dispose() => _handle.Dispose();
}
