using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux;

/// <summary>Finds data and holes in a file: lseek(2), SEEK_DATA and SEEK_HOLE.</summary>
internal static class SparseFile
{
    /// <summary>Visits the runs of a range that hold data. A file system without holes reports everything as data.</summary>
    /// <param name="file">The file; its position changes.</param>
    /// <param name="start">First byte.</param>
    /// <param name="end">Byte after the last.</param>
    /// <param name="visit">Called with the first byte of a run and the byte after its last.</param>
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
