using System.ComponentModel;
using System.Runtime.InteropServices;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>The few system calls that the harness makes itself.</summary>
internal static partial class Libc
{
    public const int SigKill = 9;
    public const int SigStop = 19;
    public const int SigCont = 18;
    public const int SigTerm = 15;
    private const int DetachWhenUnused = 2; // MNT_DETACH

    /// <summary>Sends a signal; a process that has gone is no error.</summary>
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
            throw new Win32Exception(Marshal.GetLastPInvokeError(), $"mount hugetlbfs on {directory}: {Marshal.GetLastPInvokeErrorMessage()}");
    }

    public static void Unmount(string directory) => _ = umount2(directory, DetachWhenUnused);

    public static bool IsRoot => geteuid() == 0;

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int pid, int signal);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int mount(string source, string target, string type, ulong flags, string data);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int umount2(string target, int flags);

    [LibraryImport("libc")]
    private static partial uint geteuid();
}
