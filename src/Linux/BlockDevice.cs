using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux;

/// <summary>Calls for block devices and for holes in files: blkdev(4) and fallocate(2).</summary>
internal static unsafe partial class BlockDevice
{
    private const ulong BLKGETSIZE64 = 0x80081272;
    private const int FALLOC_FL_KEEP_SIZE = 1,
        FALLOC_FL_PUNCH_HOLE = 2,
        FALLOC_FL_ZERO_RANGE = 0x10;

    /// <summary>Size of an open block device in bytes.</summary>
    /// <exception cref="LinuxException">ENOTTY: it is not a block device.</exception>
    internal static long Size(SafeFileHandle device, string name)
    {
        ulong size;
        // SAFETY: the request writes one u64.
        return Libc.Ioctl((int)device.DangerousGetHandle(), BLKGETSIZE64, &size) == 0
            ? (long)size
            : throw LinuxException.Last($"size of {name}");
    }

    /// <summary>Makes a range read as zeros without writing them, and frees its space if the storage can.</summary>
    /// <returns>False if the file system or device cannot do that: write the zeros.</returns>
    internal static bool TryZero(SafeFileHandle file, long offset, long length)
    {
        foreach (int mode in (ReadOnlySpan<int>)[FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE])
        {
            int r;
            do r = fallocate(file, mode, offset, length);
            while (r < 0 && Marshal.GetLastPInvokeError() == Errno.EINTR);
            if (r == 0)
                return true;
        }
        return false;
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fallocate(SafeFileHandle fd, int mode, long offset, long length);
}
