using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Linux;

/// <summary>
/// A process's folder in /proc, opened once: what is looked at below it is that process's, or nothing. A path with a number in it would
/// lead to another process as
/// soon as this one has ended and its number was given away.
/// </summary>
internal class ProcessEntry : IDisposable
{
    private readonly SafeFileHandle _folder;

    /// <summary>Opens it.</summary>
    /// <param name="pid">The process's number.</param>
    /// <param name="proc">Where processes are seen; tests have their own.</param>
    /// <exception cref="LinuxException">ENOENT: no such process.</exception>
    protected ProcessEntry(int pid, string proc)
    {
        Pid = pid;
        _folder = FileSyscalls.OpenAt(null, $"{proc}/{pid}", FileSyscalls.O_PATH | FileSyscalls.O_DIRECTORY);
    }

    /// <summary>Its number, for messages.</summary>
    internal int Pid { get; }

    /// <inheritdoc cref="ProcessEntry(int, string)"/>
    internal static ProcessEntry Open(int pid, string proc = "/proc") => new(pid, proc);

    /// <summary>A path to something in it, for one call: it leads nowhere when the process has ended.</summary>
    /// <exception cref="ObjectDisposedException">This was disposed of, and the path could lead into something else.</exception>
    internal string At(string name)
    {
        ObjectDisposedException.ThrowIf(_folder.IsClosed, this);
        return $"/proc/self/fd/{_folder.DangerousGetHandle()}/{name}";
    }

    /// <summary>Its descriptors as links.</summary>
    /// <exception cref="IOException">It has ended.</exception>
    /// <exception cref="UnauthorizedAccessException">It is not ours to look at.</exception>
    internal IEnumerable<string> Descriptors() => Directory.EnumerateFileSystemEntries(At("fd"));

    /// <inheritdoc/>
    public virtual void Dispose()
    {
        _folder.Dispose();
        GC.SuppressFinalize(this);
    }
}
