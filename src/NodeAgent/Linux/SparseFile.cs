using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Linux;

/// <summary>Where a file has data and where it has holes: lseek(2), SEEK_DATA and SEEK_HOLE.</summary>
internal static class SparseFile
{
    /// <summary>Visits the stretches of a range that hold data. A file system that knows no holes calls all of it data.</summary>
    /// <param name="file">The file; its position is moved.</param>
    /// <param name="start">First byte.</param>
    /// <param name="end">Byte behind the last.</param>
    /// <param name="visit">Called with first byte and byte behind the last of a stretch.</param>
    internal static void VisitData(SafeFileHandle file, long start, long end, Action<long, long> visit)
    {
        int fd = (int)file.DangerousGetHandle();
        while (start < end)
        {
            long data = Libc.LSeek(fd, start, Libc.SEEK_DATA);
            if (data < 0 || data >= end)
                return; // ENXIO: only a hole is left
            long hole = Libc.LSeek(fd, data, Libc.SEEK_HOLE);
            start = hole < 0 ? end : Math.Min(hole, end);
            visit(data, start);
        }
    }
}
