using Bgsnap.Engine.Disks.Nbd;
using Bgsnap.SnapshotFormat.Qcow2;

namespace Bgsnap.Engine.Disks;

/// <summary>
/// The clusters of a disk that were zero at its point in time, for a server that cannot report them: read from the disk as it is now, minus
/// everything written since before the cut.
/// </summary>
/// <remarks>
/// QEMU marks a write in a dirty bitmap when the write has completed. So the order is: first the map of the disk, then a moment in which no
/// request of the guest is in progress, then the bitmap. A cluster that is zero in the map and unmarked in the bitmap was zero all the
/// time.
/// </remarks>
internal sealed class HoleMap
{
    private const long Cluster = Qcow2Format.ClusterSize;
    private readonly ulong[] _zero;
    private readonly long _size;

    private HoleMap(long size) => (_size, _zero) = (size, new ulong[((size + Cluster - 1) / Cluster + 63) / 64]);

    /// <summary>Reads the map.</summary>
    /// <param name="now">Reports what is zero on the disk as it is now.</param>
    /// <param name="written">
    /// Called after that has been read: reports what was written from before the cut until the end of every request that was in progress
    /// when it was called.
    /// </param>
    /// <exception cref="NbdException">A server failed.</exception>
    internal static HoleMap Read(NbdClient now, Func<NbdClient> written)
    {
        HoleMap map = new(now.Export.Size);
        map.Visit(now, zero =>
        {
            // Only clusters that are zero as a whole; the last one may be shorter.
            long end = zero.Offset + zero.Length == map._size ? map.Clusters : (zero.Offset + zero.Length) / Cluster;
            for (long c = (zero.Offset + Cluster - 1) / Cluster; c < end; c++)
                map._zero[c / 64] |= 1UL << (int)(c % 64);
        });
        map.Visit(written(), dirty =>
        {
            for (long c = dirty.Offset / Cluster, end = (dirty.Offset + dirty.Length + Cluster - 1) / Cluster; c < end; c++)
                map._zero[c / 64] &= ~(1UL << (int)(c % 64));
        });
        return map;
    }

    /// <summary>Fills the list with one extent that begins at <paramref name="offset"/>, a multiple of the cluster size.</summary>
    internal void Extent(long offset, List<NbdExtent> extents)
    {
        extents.Clear();
        long first = offset / Cluster,
            at = first;
        bool zero = IsZero(first);
        for (; at < Clusters && IsZero(at) == zero; at++)
        {
            // Skip 64 equal clusters at once.
            if (at % 64 == 0 && _zero[at / 64] == (zero ? ulong.MaxValue : 0) && at + 64 <= Clusters)
                at += 63;
        }
        extents.Add(new NbdExtent(offset, Math.Min(at * Cluster, _size) - offset, zero));
    }

    private long Clusters => (_size + Cluster - 1) / Cluster;

    private bool IsZero(long cluster) => (_zero[cluster / 64] >> (int)(cluster % 64) & 1) != 0;

    private void Visit(NbdClient client, Action<NbdExtent> found)
    {
        if (client.Export.Size != _size)
            throw new NbdException($"a disk of {_size} bytes became one of {client.Export.Size}", Linux.Errno.EINVAL);
        List<NbdExtent> extents = [];
        for (long at = 0; at < _size; at = extents[^1].Offset + extents[^1].Length)
        {
            client.BlockStatus(at, extents);
            foreach (NbdExtent e in extents)
            {
                if (e.IsZero)
                    found(e);
            }
        }
    }
}
