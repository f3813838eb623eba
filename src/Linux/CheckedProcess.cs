using System.Diagnostics;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux;

/// <summary>
/// A process that is checked once and from then on reached only through its own descriptors: its number may go to another process as soon
/// as it ends, a descriptor never does.
/// </summary>
/// <remarks>
/// <code>
///   pidfd_open(pid)      this very process
///   open /proc/pid       bound to one process
///   the pidfd is alive   so that was this one; what is opened below it is this one's, or fails
/// </code>
/// </remarks>
internal sealed class CheckedProcess : ProcessEntry
{
    private readonly PidFd _process;

    private CheckedProcess(int pid, PidFd process)
        : base(pid, "/proc") => _process = process;

    /// <summary>Its pidfd.</summary>
    internal PidFd Descriptor => _process;

    /// <summary>Opens a process before anything about it is checked.</summary>
    /// <exception cref="LinuxException">ESRCH: no such process.</exception>
    internal static CheckedProcess Open(int pid)
    {
        PidFd process = PidFd.Open(pid);
        CheckedProcess? held = null;
        try
        {
            held = new CheckedProcess(pid, process);
            held.ThrowIfEnded();
            return held;
        }
        catch
        {
            held?.Dispose();
            process.Dispose();
            throw;
        }
    }

    /// <summary>The same; null if the process cannot be seen from here (0) or has ended.</summary>
    internal static CheckedProcess? TryOpen(int pid)
    {
        try
        {
            return pid == 0 ? null : Open(pid);
        }
        catch (LinuxException e) when (e.Errno is Errno.ESRCH or Errno.ENOENT)
        {
            return null;
        }
    }

    /// <summary>Opens a child of ours, which the runtime may reap at any time; null if it has ended.</summary>
    internal static CheckedProcess? TryOpen(Process child)
    {
        CheckedProcess? held = TryOpen(child.Id);
        if (held is null || !child.HasExited)
            return held; // not reaped yet, so the number was its own when it was opened
        held.Dispose();
        return null;
    }

    /// <summary>Sends it a signal, if it has not ended.</summary>
    internal void Signal(int signal) => _process.Signal(signal);

    /// <summary>
    /// Call this after something that knows a process only by its number: if it does not throw, what was read came from this process;
    /// otherwise discard it.
    /// </summary>
    /// <exception cref="LinuxException">ESRCH: the process has ended.</exception>
    internal void ThrowIfEnded() => _process.ThrowIfEnded();

    /// <summary>Opens its memory.</summary>
    /// <exception cref="LinuxException">EACCES, EPERM: ptrace is denied; ESRCH, ENOENT: the process has ended.</exception>
    internal ForeignMemory OpenMemory()
    {
        SafeFileHandle memory = FileSyscalls.OpenAt(null, At("mem"), FileSyscalls.O_RDWR, 0, $"/proc/{Pid}/mem");
        return new ForeignMemory(memory, Pid);
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        _process.Dispose();
        base.Dispose();
    }
}
