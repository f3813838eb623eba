using Bgsnap.NodeAgent.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Disks.Graph;

/// <summary>
/// Where QEMU keeps what the guest overwrites before it was copied: unnamed files on the host, so that nothing is left of them whoever
/// dies, each with a length that QEMU itself does not pass.
/// </summary>
internal static class ScratchSpace
{
    /// <summary>Used when no limit is given, bytes.</summary>
    internal const long DefaultLimit = 10L << 30;

    /// <summary>Below that a disk's scratch is of no use, bytes.</summary>
    internal const long Smallest = 4L << 20;
    private const long Slack = 2L << 20;
    private const long Cluster = 64 << 10;

    /// <summary>Shares the limit among the disks: none gets more than it can ever use, what it leaves goes to the larger ones.</summary>
    /// <param name="virtualSizes">Sizes of the disks, bytes.</param>
    /// <param name="limit">Bytes for all of them.</param>
    internal static long[] Share(IReadOnlyList<long> virtualSizes, long limit)
    {
        long[] shares = new long[virtualSizes.Count];
        long left = limit;
        int open = shares.Length;
        foreach (int i in Enumerable.Range(0, shares.Length).OrderBy(i => virtualSizes[i]))
        {
            // qcow2's own tables are 8 bytes and 2 bytes for each cluster.
            long most = virtualSizes[i] + virtualSizes[i] / (Cluster / 16) + Slack;
            shares[i] = Math.Min(most, left / open--) / Cluster * Cluster;
            left -= shares[i];
        }
        return shares;
    }

    /// <summary>The limit, or less where the volume has less: a tenth of what is free there stays free for others.</summary>
    /// <exception cref="CaptureRefusedException">There is no such directory, or no room.</exception>
    internal static long LimitIn(string directory, long limit, int disks)
    {
        long free;
        try
        {
            free = new DriveInfo(directory).AvailableFreeSpace;
        }
        catch (Exception e) when (e is IOException or ArgumentException or UnauthorizedAccessException)
        {
            throw new CaptureRefusedException(
                "ScratchUnusable",
                $"scratch directory {directory}: {e.Message}; name another with --scratch"
            );
        }
        long most = Math.Min(limit, free / 10 * 9);
        return most >= disks * Smallest
            ? most
            : throw new CaptureRefusedException(
                "ScratchTooSmall",
                $"scratch for {disks} disk(s) needs at least {(disks * Smallest) >> 20} MiB, {directory} allows {most >> 20} MiB: "
                    + "free space there, raise --scratch-limit, or name another directory with --scratch"
            );
    }

    /// <summary>Makes a file without a name, readable and writable, that is gone with its last descriptor.</summary>
    /// <exception cref="CaptureRefusedException">The directory takes no such file.</exception>
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
            throw new CaptureRefusedException(
                "ScratchUnusable",
                $"scratch directory {directory}: {e.Message}; name another with --scratch (ext4, xfs, btrfs and tmpfs do)"
            );
        }
    }
}
