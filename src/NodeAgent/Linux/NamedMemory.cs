using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Linux;

/// <summary>
/// A file in memory that has a name: whoever looks at the descriptors of a process that holds it can tell it from others (memfd_create(2)).
/// </summary>
internal static unsafe class NamedMemory
{
    private const long SysMemfdCreate = 319,
        MfdCloexec = 1;

    /// <summary>Makes one, empty.</summary>
    /// <param name="name">At most 249 bytes.</param>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    internal static SafeFileHandle Create(string name)
    {
        // SAFETY: a name with a final zero, which is only read.
        fixed (byte* text = Encoding.UTF8.GetBytes(name + '\0'))
        {
            long fd = Libc.Syscall(SysMemfdCreate, (long)text, MfdCloexec, 0, 0, 0, 0);
            return fd >= 0 ? new SafeFileHandle((nint)fd, true) : throw LinuxException.Last("memfd_create");
        }
    }

    /// <summary>Whether a process holds one of this name. One whose descriptors cannot be looked at holds none.</summary>
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
            // It has ended, or is not ours to look at.
        }
        return false;
    }
}
