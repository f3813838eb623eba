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
            foreach (string link in process.Descriptors())
            {
                if (new FileInfo(link).LinkTarget == $"/memfd:{name} (deleted)")
                    return true;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The process has ended, or is not accessible to us.
        }
        return false;
    }
}
