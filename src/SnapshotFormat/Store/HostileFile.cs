using Bgsnap.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>Opens and reads files that may come from an untrusted source.</summary>
internal static unsafe class HostileFile
{
    /// <summary>Opens a regular file for reading: no symbolic link, and no waiting on a FIFO or device.</summary>
    public static SafeFileHandle Open(SafeFileHandle? directory, string name, string display, out long size)
    {
        const int Flags = FileSyscalls.O_RDONLY | FileSyscalls.O_NOFOLLOW | FileSyscalls.O_NONBLOCK;
        SafeFileHandle file = FileSyscalls.OpenAt(directory, name, Flags, 0, display);
        try
        {
            FileSyscalls.FileStatus status = FileSyscalls.Status(file, display);
            if (!status.IsRegular)
                throw new SnapshotCorruptException(display, 0, "not a regular file");
            size = status.Size;
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Fills the span from <paramref name="offset"/>; a file that ends earlier is corrupt.</summary>
    public static void ReadExactly(SafeFileHandle file, Span<byte> destination, long offset, string display)
    {
        // SAFETY: the span is pinned for the call and no more than its length is read.
        fixed (byte* p = destination)
        {
            nuint n = FileSyscalls.ReadAll(file, p, (nuint)destination.Length, offset, display);
            if (n < (nuint)destination.Length)
                throw new SnapshotCorruptException(display, offset + (long)n, "the file ended while it was read");
        }
    }
}
