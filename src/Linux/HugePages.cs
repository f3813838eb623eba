namespace Bgsnap.Linux;

/// <summary>Collapses small pages into huge pages in another process: process_madvise(2) with MADV_COLLAPSE (Linux 6.1).</summary>
internal static unsafe class HugePages
{
    private const long SysProcessMadvise = 440;
    private const int MADV_COLLAPSE = 25;

    /// <summary>Bytes of a huge page.</summary>
    internal const ulong Size = 2 << 20;

    /// <summary>Whether this machine gives huge pages to a process that asks (transparent_hugepage/enabled is not never).</summary>
    internal static bool AreGiven()
    {
        try
        {
            return !File.ReadAllText("/sys/kernel/mm/transparent_hugepage/enabled").Contains("[never]", StringComparison.Ordinal);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    /// <summary>Creates one huge page.</summary>
    /// <param name="process">The process.</param>
    /// <param name="start">Its address there, a multiple of <see cref="Size"/>.</param>
    /// <returns>0, or the error number: EINVAL if the memory does not exist or the kernel is older; EAGAIN or ENOMEM if no huge page is
    /// available now; EPERM.</returns>
    internal static int TryMake(PidFd process, ulong start)
    {
        ulong* range = stackalloc ulong[2];
        (range[0], range[1]) = (start, Size);
        // SAFETY: the iovec lives on the stack for the call; the memory it names is the other process's.
        return Libc.Syscall(SysProcessMadvise, process.FileDescriptor, (long)range, 1, MADV_COLLAPSE, 0, 0) >= 0
            ? 0
            : System.Runtime.InteropServices.Marshal.GetLastPInvokeError();
    }
}
