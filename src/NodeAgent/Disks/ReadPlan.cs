using Bgsnap.NodeAgent.Disks.Nbd;
using Bgsnap.NodeAgent.Disks.Qcow2;

namespace Bgsnap.NodeAgent.Disks;

/// <summary>Cuts what the server calls data into chunks of whole clusters, in ascending order.</summary>
/// <param name="size">Bytes of the export.</param>
/// <param name="holes">What is zero, where the server cannot tell; null: it is asked.</param>
internal sealed class ReadPlan(long size, HoleMap? holes = null)
{
    /// <summary>Longest chunk.</summary>
    public const int ChunkSize = NbdClient.MaxRead;

    private const long Cluster = Qcow2Format.ClusterSize;

    private readonly List<NbdExtent> _extents = [];
    private int _index;
    private long _known; // the extents were told up to here
    private long _cut; // and cut up to here

    /// <summary>Bytes of the export.</summary>
    public long Size => size;

    /// <summary>Bytes of all chunks of an export.</summary>
    public static long Total(NbdClient client, HoleMap? holes)
    {
        ReadPlan plan = new(client.Export.Size, holes);
        long total = 0;
        while (plan.TryNext(client, trim: false, out _, out int length))
            total += length;
        return total;
    }

    /// <summary>The next chunk; false: that was all.</summary>
    /// <param name="client">Asked for more extents when those known are used up.</param>
    /// <param name="trim">Zeros, which nobody will read, are trimmed.</param>
    /// <param name="offset">Where it begins: a multiple of the cluster.</param>
    /// <param name="length">Its bytes: a multiple of the cluster except at the disk's end.</param>
    /// <exception cref="NbdException">The server failed.</exception>
    public bool TryNext(NbdClient client, bool trim, out long offset, out int length)
    {
        while (true)
        {
            for (; _index < _extents.Count; _index++)
            {
                NbdExtent extent = _extents[_index];
                if (extent.IsZero)
                    continue;
                // Whole clusters, since a cluster is stored whole; one that several extents share is read once.
                offset = Math.Max(_cut, extent.Offset & ~(Cluster - 1));
                long end = Math.Min((extent.Offset + extent.Length + Cluster - 1) & ~(Cluster - 1), size);
                if (offset >= end)
                    continue;
                length = (int)Math.Min(ChunkSize, end - offset);
                _cut = offset + length;
                return true;
            }
            (offset, length) = (0, 0);
            if (_known == size)
                return false;
            if (holes is null)
                client.BlockStatus(_known, _extents);
            else
                holes.Extent(_known, _extents);
            _index = 0;
            _known = _extents[^1].Offset + _extents[^1].Length;
            if (trim)
                TrimZeros(client);
        }
    }

    // Only clusters that are zero as a whole: the others belong to a chunk.
    private void TrimZeros(NbdClient client)
    {
        foreach (NbdExtent extent in _extents)
        {
            if (!extent.IsZero)
                continue;
            long end = (extent.Offset + extent.Length) & ~(Cluster - 1);
            for (long at = (extent.Offset + Cluster - 1) & ~(Cluster - 1); at < end; at += 1 << 30)
                client.Trim(at, (uint)Math.Min(1 << 30, end - at));
        }
    }
}
