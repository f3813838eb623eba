using System.ComponentModel;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>The few system calls that the harness makes itself.</summary>
internal static partial class HarnessLibc
{
    public const int SigKill = 9;
    public const int SigStop = 19;
    public const int SigCont = 18;
    public const int SigTerm = 15;
    private const int DetachWhenUnused = 2; // MNT_DETACH

    /// <summary>Sends a signal; a process that is already gone is not an error.</summary>
    public static void Kill(int pid, int signal)
    {
        const int NoSuchProcess = 3;
        ArgumentOutOfRangeException.ThrowIfLessThan(pid, 2); // never a group, never everything
        if (kill(pid, signal) != 0 && Marshal.GetLastPInvokeError() is var error and not NoSuchProcess)
            throw new Win32Exception(error, $"kill({pid}, {signal}): {Marshal.GetPInvokeErrorMessage(error)}");
    }

    public static void MountHugetlbfs(string directory)
    {
        if (mount("bgsnap-test", directory, "hugetlbfs", 0, "mode=0777") != 0)
            throw new Win32Exception(
                Marshal.GetLastPInvokeError(),
                $"mount hugetlbfs on {directory}: {Marshal.GetLastPInvokeErrorMessage()}"
            );
    }

    /// <summary>Does umount -l; false: nothing is mounted there.</summary>
    public static bool Unmount(string directory) => umount2(directory, DetachWhenUnused) == 0;

    /// <summary>EXT4_IOC_SHUTDOWN on a mounted ext4.</summary>
    public static void ShutDownExt4(string directory)
    {
        const nuint Shutdown = 0x8004587d;
        var withoutFlushing = 2u; // EXT4_GOING_FLAGS_NOLOGFLUSH
        using var folder = OpenDirectory(directory);
        if (ioctl(folder, Shutdown, ref withoutFlushing) != 0)
            throw new Win32Exception(Marshal.GetLastPInvokeError(), $"shut down {directory}: {Marshal.GetLastPInvokeErrorMessage()}");
    }

    private static SafeFileHandle OpenDirectory(string directory)
    {
        const int Directory = 0x10000,
            CloseOnExec = 0x80000;
        var fd = open(directory, Directory | CloseOnExec);
        return fd >= 0
            ? new SafeFileHandle(fd, ownsHandle: true)
            : throw new Win32Exception(Marshal.GetLastPInvokeError(), $"open {directory}: {Marshal.GetLastPInvokeErrorMessage()}");
    }

    public static bool IsRoot => geteuid() == 0;

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int pid, int signal);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int mount(string source, string target, string type, ulong flags, string data);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int umount2(string target, int flags);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int open(string path, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int ioctl(SafeFileHandle file, nuint request, ref uint argument);

    [LibraryImport("libc")]
    private static partial uint geteuid();
}
