using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux;

/// <summary>
/// A process's folder in /proc, opened once: what is read below it belongs to that process, or the read fails. A path with a number in it
/// would lead to another process once this one has ended and its number has been reused.
/// </summary>
internal class ProcessEntry : IDisposable
{
    private readonly SafeFileHandle _folder;

    /// <summary>Opens the folder.</summary>
    /// <param name="pid">The process's number.</param>
    /// <param name="proc">Where processes are listed; tests have their own.</param>
    /// <exception cref="LinuxException">ENOENT: no such process.</exception>
    protected ProcessEntry(int pid, string proc)
    {
        Pid = pid;
        _folder = FileSyscalls.OpenAt(null, $"{proc}/{pid}", FileSyscalls.O_PATH | FileSyscalls.O_DIRECTORY);
    }

    /// <summary>The process's number, for messages.</summary>
    internal int Pid { get; }

    /// <inheritdoc cref="ProcessEntry(int, string)"/>
    internal static ProcessEntry Open(int pid, string proc = "/proc") => new(pid, proc);

    /// <summary>A path to an entry in it, for one call: it leads nowhere once the process has ended.</summary>
    /// <exception cref="ObjectDisposedException">This object was disposed, and the path could lead to something else.</exception>
    internal string At(string name)
    {
        ObjectDisposedException.ThrowIf(_folder.IsClosed, this);
        return $"/proc/self/fd/{_folder.DangerousGetHandle()}/{name}";
    }

    /// <summary>The process's descriptors as links.</summary>
    /// <exception cref="IOException">The process has ended.</exception>
    /// <exception cref="UnauthorizedAccessException">The process is not accessible to us.</exception>
    internal IEnumerable<string> Descriptors() => Directory.EnumerateFileSystemEntries(At("fd"));

    /// <inheritdoc/>
    public virtual void Dispose()
    {
        _folder.Dispose();
        GC.SuppressFinalize(this);
    }
}
