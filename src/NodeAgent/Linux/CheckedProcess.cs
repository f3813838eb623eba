using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Linux;

/// <summary>
/// A process that something is checked of, and which from then on is reached only by descriptors of its own: its number may go to another process the moment it
/// ends, a descriptor never does.
/// </summary>
/// <remarks>
/// <code>
///   pidfd_open(pid)      this very process
///   check by its number  cgroup, command line …
///   the pidfd is alive   so the number was its own all the time, and what was checked is true of it
///   open /proc/pid/mem   bound to the memory that is there now
///   the pidfd is alive   so that memory is this process's, and stays it: after its end every access fails
/// </code>
/// </remarks>
internal sealed class CheckedProcess : IDisposable
{
    private readonly PidFd _process;

    private CheckedProcess(int pid, PidFd process) => (Pid, _process) = (pid, process);

    /// <summary>Its number, for what is only looked at and checked again.</summary>
    internal int Pid { get; }

    /// <summary>Its descriptor.</summary>
    internal PidFd Descriptor => _process;

    /// <summary>Takes hold of a process, before anything is checked of it.</summary>
    /// <exception cref="LinuxException">ESRCH: no such process.</exception>
    internal static CheckedProcess Open(int pid) => new(pid, PidFd.Open(pid));

    /// <summary>Whether something is true of it.</summary>
    /// <exception cref="LinuxException">ESRCH: it has ended, and the number may have been another's when it was checked.</exception>
    internal bool Is(Func<int, bool> check)
    {
        bool right = check(Pid);
        _process.ThrowIfEnded();
        return right;
    }

    /// <summary>Opens its memory.</summary>
    /// <exception cref="LinuxException">EACCES, EPERM: ptrace is denied; ESRCH, ENOENT: it has ended.</exception>
    internal ForeignMemory OpenMemory()
    {
        SafeFileHandle memory = FileSyscalls.OpenAt(null, $"/proc/{Pid}/mem", FileSyscalls.O_RDWR);
        try
        {
            _process.ThrowIfEnded();
            return new ForeignMemory(memory, Pid);
        }
        catch
        {
            memory.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _process.Dispose();
}
