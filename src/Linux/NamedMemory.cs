using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux;

/// <summary>
/// A memory file with a name, by which it can be recognised among the descriptors of a process that holds it (memfd_create(2)).
/// </summary>
internal static unsafe class NamedMemory
{
    private const long SysMemfdCreate = 319,
        MfdCloexec = 1;

    /// <summary>Creates an empty one.</summary>
    /// <param name="name">At most 249 bytes.</param>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    internal static SafeFileHandle Create(string name)
    {
        // SAFETY: a zero-terminated name, which is only read.
        fixed (byte* text = Encoding.UTF8.GetBytes(name + '\0'))
        {
            long fd = Libc.Syscall(SysMemfdCreate, (long)text, MfdCloexec, 0, 0, 0, 0);
            return fd >= 0 ? new SafeFileHandle((nint)fd, true) : throw LinuxException.Last("memfd_create");
        }
    }

    /// <summary>Whether a process holds a memory file of this name. If its descriptors cannot be read, the answer is no.</summary>
    internal static bool IsHeldBy(ProcessEntry process, string name)
    {
        try
        {
            return LinkTo(process, name) is not null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false; // The process has ended, or is not accessible to us.
        }
    }

    /// <summary>Reads a memory file of this name that a process holds.</summary>
    /// <param name="process">The process; it may be hostile.</param>
    /// <param name="name">The file's name.</param>
    /// <param name="limit">The most bytes that are read.</param>
    /// <returns>Empty if the process holds no such file, or it cannot be read.</returns>
    internal static string ReadHeldBy(ProcessEntry process, string name, int limit)
    {
        try
        {
            if (LinkTo(process, name) is not { } link)
                return "";
            using SafeFileHandle file = File.OpenHandle(link);
            byte[] bytes = new byte[limit];
            return Encoding.UTF8.GetString(bytes, 0, RandomAccess.Read(file, bytes, 0));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            return ""; // as above, or the process has put something else there
        }
    }

    private static string? LinkTo(ProcessEntry process, string name) =>
        process.Descriptors().FirstOrDefault(link => new FileInfo(link).LinkTarget == $"/memfd:{name} (deleted)");
}
