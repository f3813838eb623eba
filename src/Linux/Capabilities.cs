using System.Runtime.InteropServices;

namespace Bgsnap.Linux;

/// <summary>Drops the capabilities that are not needed, permanently: capabilities(7).</summary>
internal static unsafe partial class Capabilities
{
    /// <summary>
    /// The capabilities that remain; docs/security.md gives the reason for each: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE,
    /// CAP_SYS_NICE, CAP_CHECKPOINT_RESTORE, CAP_CHOWN.
    /// </summary>
    internal const ulong Needed = 1UL | (1UL << 1) | (1UL << 2) | (1UL << 19) | (1UL << 23) | (1UL << 40);

    private const int PrCapbsetRead = 23,
        PrCapbsetDrop = 24;
    private const int EINVAL = 22;

    [LibraryImport("libc", EntryPoint = "prctl", SetLastError = true)]
    private static partial int Prctl(int option, ulong a, ulong b, ulong c, ulong d);

    [LibraryImport("libc", EntryPoint = "execv", SetLastError = true)]
    private static partial int Execv([MarshalAs(UnmanagedType.LPUTF8Str)] string path, byte** arguments);

    /// <summary>Whether this process could still get other capabilities.</summary>
    internal static bool HasOthers()
    {
        for (int c = 0; ; c++)
        {
            int has = Prctl(PrCapbsetRead, (ulong)c, 0, 0, 0);
            if (has < 0)
                return false;
            if (has == 1 && (Needed & (1UL << c)) == 0)
                return true;
        }
    }

    /// <summary>Restarts this program with the same arguments and only the needed capabilities. Does not return.</summary>
    /// <remarks>Capabilities belong to threads; only execve gives all threads of a process the same ones.</remarks>
    /// <exception cref="LinuxException">The capabilities cannot be dropped (no CAP_SETPCAP).</exception>
    internal static void RestartWithFewer(string[] arguments)
    {
        for (int c = 0; ; c++)
        {
            if ((Needed & (1UL << c)) != 0)
                continue;
            if (Prctl(PrCapbsetDrop, (ulong)c, 0, 0, 0) == 0)
                continue;
            if (Marshal.GetLastPInvokeError() == EINVAL)
                break; // past the kernel's last capability
            throw LinuxException.Last($"drop capability {c}");
        }
        string[] all = [Environment.ProcessPath ?? "bgsnap-agent", .. arguments];
        byte** list = stackalloc byte*[all.Length + 1];
        for (int i = 0; i < all.Length; i++)
            list[i] = (byte*)Marshal.StringToCoTaskMemUTF8(all[i]);
        list[all.Length] = null;
        // SAFETY: a null-terminated list of null-terminated strings, as execv requires; on success nothing of this process remains.
        _ = Execv("/proc/self/exe", list);
        throw LinuxException.Last("restart with fewer capabilities");
    }
}
