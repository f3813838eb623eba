using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Vocabulary;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>
/// Where QEMU keeps what the guest overwrites before it is copied: unnamed files on the host, so that nothing remains whichever process
/// dies. QEMU itself never exceeds the length of a file.
/// </summary>
internal static class ScratchSpace
{
    /// <summary>The default limit, bytes.</summary>
    internal const long DefaultLimit = 10L << 30;

    /// <summary>The smallest useful scratch of a disk, bytes.</summary>
    internal const long Smallest = 4L << 20;
    private const long Slack = 2L << 20;
    private const long Cluster = 64 << 10;

    /// <summary>Divides the limit among the disks: no disk gets more than it can ever use, and the rest goes to the larger ones.</summary>
    /// <param name="virtualSizes">Sizes of the disks, bytes.</param>
    /// <param name="limit">Bytes for all disks together.</param>
    internal static long[] Share(IReadOnlyList<long> virtualSizes, long limit)
    {
        long[] shares = new long[virtualSizes.Count];
        long left = limit;
        int open = shares.Length;
        foreach (int i in Enumerable.Range(0, shares.Length).OrderBy(i => virtualSizes[i]))
        {
            // qcow2's own tables take 8 bytes and 2 bytes for each cluster.
            long most = virtualSizes[i] + virtualSizes[i] / (Cluster / 16) + Slack;
            shares[i] = Math.Min(most, left / open--) / Cluster * Cluster;
            left -= shares[i];
        }
        return shares;
    }

    /// <summary>Returns the limit, or less if the volume has less: a tenth of its free space stays free for others.</summary>
    /// <exception cref="RefusedException">The directory does not exist, or has no room.</exception>
    internal static long LimitIn(string directory, long limit, int disks)
    {
        long free;
        try
        {
            free = new DriveInfo(directory).AvailableFreeSpace;
        }
        catch (Exception e) when (e is IOException or ArgumentException or UnauthorizedAccessException)
        {
            throw new RefusedException(Reasons.ScratchUnusable, $"scratch directory {directory}: {e.Message}; name another with --scratch");
        }
        long most = Math.Min(limit, free / 10 * 9);
        return most >= disks * Smallest
            ? most
            : throw new RefusedException(
                Reasons.ScratchTooSmall,
                $"{disks} disk(s) need at least {(disks * Smallest) >> 20} MiB of scratch, and {directory} allows {most >> 20} MiB: "
                    + "free space there, raise --scratch-limit, or name another directory with --scratch"
            );
    }

    /// <summary>Creates a file without a name, readable and writable, that disappears with its last descriptor.</summary>
    /// <exception cref="RefusedException">The directory does not support such a file.</exception>
    internal static SafeFileHandle CreateFile(string directory)
    {
        try
        {
            return FileSyscalls.OpenAt(
                null,
                directory,
                FileSyscalls.O_RDWR | FileSyscalls.O_TMPFILE,
                0x180 /* 0600 */
                ,
                $"an unnamed file in {directory}"
            );
        }
        catch (LinuxException e)
        {
            throw new RefusedException(
                Reasons.ScratchUnusable,
                $"scratch directory {directory}: {e.Message}; name another with --scratch (ext4, xfs, btrfs and tmpfs work)"
            );
        }
    }
}
