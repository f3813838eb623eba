using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Store;
using static Bgsnap.SnapshotFormat.Qcow2.Qcow2Format;

namespace Bgsnap.SnapshotFormat.Qcow2;

/// <summary>
/// Checks what qemu-img check checks: every cluster of the file is used once, is counted once, and is marked so. That also finds a table
/// that points to itself or to another table's cluster. It reads the tables, not the data.
/// </summary>
internal static unsafe class Qcow2Check
{
    // One bit for each cluster of the file; 64 TiB of data in clusters of the size we write, and their tables, fit.
    private const long MaxClusters = (1L << 30) + (1L << 26);

    /// <summary>Checks a file.</summary>
    /// <returns>Bytes of the clusters that hold data.</returns>
    /// <exception cref="SnapshotCorruptException">The first error found.</exception>
    /// <exception cref="LinuxException">The file cannot be read.</exception>
    public static long Run(Qcow2Reader reader)
    {
        Qcow2Header header = reader.Header;
        long clusters = (reader.FileSize + header.ClusterSize - 1) >> header.ClusterBits;
        if (clusters > MaxClusters)
            throw reader.Wrong(0, $"a file of {clusters} clusters is too large to check");
        nuint bytes = (nuint)((clusters + 7) / 8);
        // Untouched parts cost nothing: memory grows only with what the tables refer to.
        byte* used = NativeMemoryMap.Allocate(bytes);
        try
        {
            Use(0, header.ClusterSize, 0);
            Use(header.L1Offset, header.L1Entries * 8L, 40);
            Use(header.RefcountTableOffset, header.RefcountTableBytes, 48);
            long data = Mapping();
            Refcounts();
            return data;
        }
        finally
        {
            NativeMemoryMap.Free(used, bytes);
        }

        long Mapping()
        {
            long data = 0;
            for (int i = 0; i < header.L1Needed; i++)
            {
                long table = reader.L2Offset(i);
                if (table == 0)
                    continue;
                if (!reader.IsL2Copied(i))
                    throw reader.Wrong(header.L1Offset + (i * 8L), "an L2 table is not marked as used once");
                Use(table, header.ClusterSize, header.L1Offset + (i * 8L));
                long end = Math.Min((i + 1) * header.L2Span, header.VirtualSize);
                for (long at = i * header.L2Span; at < end; at += header.ClusterSize)
                {
                    ulong entry = reader.Entry(at);
                    long host = (long)(entry & OffsetMask),
                        where = table + ((at - (i * header.L2Span) >> header.ClusterBits) * 8);
                    if (host == 0)
                        continue;
                    if ((entry & Copied) == 0)
                        throw reader.Wrong(where, "a cluster is not marked as used once");
                    Use(host, 1, where);
                    if ((entry & Zero) == 0)
                        data += header.ClusterSize;
                }
            }
            return data;
        }

        void Refcounts()
        {
            int perBlock = header.ClusterSize / 2;
            ulong[] table = new ulong[header.RefcountTableBytes / 8];
            reader.ReadTable(table, header.RefcountTableOffset);
            for (int i = 0; i < table.Length; i++)
            {
                if (table[i] == 0)
                    continue;
                long at = header.RefcountTableOffset + (i * 8L);
                if ((table[i] & ~OffsetMask) != 0 || !reader.IsCluster((long)table[i], header.ClusterSize))
                    throw reader.Wrong(at, $"a refcount block cannot be at offset {table[i]}");
                Use((long)table[i], header.ClusterSize, at);
            }
            ushort[] counts = new ushort[perBlock];
            for (int i = 0; i < Math.Max(table.Length, (clusters + perBlock - 1) / perBlock); i++)
            {
                long block = i < table.Length ? (long)table[i] : 0,
                    first = (long)i * perBlock;
                if (block == 0 && first >= clusters)
                    continue;
                if (block == 0)
                    Array.Clear(counts);
                else
                    reader.ReadTable(counts, block);
                for (int j = 0; j < perBlock; j++)
                {
                    int expected = first + j < clusters && IsUsed(first + j) ? 1 : 0;
                    if (counts[j] != expected)
                        throw reader.Wrong(block + (j * 2L), $"cluster {first + j} is counted {counts[j]} times and used {expected} times");
                }
            }
        }

        bool IsUsed(long cluster) => (used[cluster >> 3] & 1 << (int)(cluster & 7)) != 0;

        // SAFETY: offset and length were already checked against the file's size, so every cluster has its bit.
        void Use(long offset, long length, long where)
        {
            for (long c = offset >> header.ClusterBits; c <= (offset + length - 1) >> header.ClusterBits; c++)
            {
                if (IsUsed(c))
                    throw reader.Wrong(where, $"cluster {c}, at offset {c << header.ClusterBits}, is used twice");
                used[c >> 3] |= (byte)(1 << (int)(c & 7));
            }
        }
    }
}
