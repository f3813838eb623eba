using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux;

/// <summary>
/// The memory of one process, through /proc/PID/mem. It stays the memory that was opened, even if another process later gets the same
/// number.
/// </summary>
/// <remarks>
/// As fast as process_vm_writev(2), which knows a process only by its number; measured in docs/design/0019-who-waits-for-whom.md.
/// </remarks>
internal sealed unsafe partial class ForeignMemory(SafeFileHandle memory, int pid) : IDisposable
{
    [LibraryImport("libc", EntryPoint = "pwrite", SetLastError = true)]
    private static partial nint PWrite(SafeHandle fd, void* buffer, nuint count, long offset);

    /// <summary>Writes exactly <paramref name="length"/> bytes.</summary>
    /// <exception cref="LinuxException">EIO: not mapped, or the process has ended.</exception>
    internal void Write(ulong address, byte* source, int length)
    {
        for (int done = 0; done < length; )
        {
            nint put = PWrite(memory, source + done, (nuint)(length - done), (long)(address + (ulong)done));
            if (put > 0)
                done += (int)put;
            else if (put == 0)
                throw new LinuxException($"write memory of process {pid} at {address + (ulong)done:x}: it has ended", Errno.ESRCH);
            else if (Marshal.GetLastPInvokeError() != Errno.EINTR)
                throw LinuxException.Last($"write memory of process {pid} at {address + (ulong)done:x}");
        }
    }

    /// <summary>Reads one byte, to check whether reading is allowed.</summary>
    internal bool CanRead(ulong address)
    {
        byte one;
        return Libc.PRead(memory, &one, 1, (long)address) == 1;
    }

    /// <inheritdoc/>
    public void Dispose() => memory.Dispose();
}
