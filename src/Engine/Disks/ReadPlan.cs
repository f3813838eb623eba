using Bgsnap.Engine.Disks.Nbd;
using Bgsnap.SnapshotFormat.Qcow2;

namespace Bgsnap.Engine.Disks;

/// <summary>Splits what the server reports as data into chunks of whole clusters, in ascending order.</summary>
/// <param name="size">Bytes of the export.</param>
/// <param name="holes">The zeros, if the server cannot report them; null to ask the server.</param>
internal sealed class ReadPlan(long size, HoleMap? holes = null)
{
    /// <summary>Longest chunk.</summary>
    public const int ChunkSize = NbdClient.MaxRead;

    private const long Cluster = Qcow2Format.ClusterSize;

    private readonly List<NbdExtent> _extents = [];
    private int _index;
    private long _known; // extents are known up to here
    private long _cut; // and split into chunks up to here

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

    /// <summary>Gets the next chunk; false after the last one.</summary>
    /// <param name="client">Asked for more extents when the known ones are used up.</param>
    /// <param name="trim">Whether to trim zeros, which will not be read.</param>
    /// <param name="offset">Where it begins: a multiple of the cluster size.</param>
    /// <param name="length">Its bytes: a multiple of the cluster size except at the disk's end.</param>
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
                // Whole clusters, because a cluster is stored whole; a cluster that several extents share is read once.
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
