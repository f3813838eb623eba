using System.Buffers.Binary;
using Bgsnap.Fuzz.Engine;
using Bgsnap.SnapshotFormat.Qcow2;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Fuzz.Readers;

/// <summary>A disk's qcow2 file: header, tables, check and content.</summary>
internal sealed class Qcow2Target : FuzzTarget
{
    // The work is bounded by the clusters that the disk has, which a small file may state many of.
    private const long MostClusters = 1 << 16;
    private readonly HostileFolder _folder = new("disk.qcow2");
    private readonly byte[] _buffer = new byte[1 << 16];

    internal override string Name => "qcow2";

    internal override bool IsRefusal(Exception e) => e is SnapshotCorruptException;

    internal override long AllocationLimit(int length) => (512 << 10) + (8L * length);

    internal override void Read(byte[] input)
    {
        _folder.Write(input);
        Qcow2Reader reader = Qcow2Reader.Open(_folder.OpenFile, input.Length, "disk.qcow2");
        if (reader.VirtualSize / reader.Header.ClusterSize > MostClusters)
            return;
        bool sound = IsSound(reader, out long data);
        try
        {
            Check(reader, sound, data);
        }
        catch (SnapshotCorruptException) when (sound)
        {
            throw new BrokenPromiseException("the check calls a disk sound that cannot be read");
        }
    }

    private static bool IsSound(Qcow2Reader reader, out long data)
    {
        try
        {
            data = Qcow2Check.Run(reader);
            return true;
        }
        catch (SnapshotCorruptException)
        {
            data = 0;
            return false;
        }
    }

    private void Check(Qcow2Reader reader, bool sound, long data)
    {
        long end = 0,
            stored = 0;
        foreach (DiskExtent extent in reader.Extents())
        {
            Promise(extent.Offset == end && extent.Length > 0, "the extents have a gap, or an empty one");
            end += extent.Length;
            if (!extent.IsData)
                continue;
            stored += extent.Length;
            for (long at = extent.Offset; at < end && at < extent.Offset + (1 << 20); at += _buffer.Length)
                reader.Read(at, _buffer.AsSpan(0, (int)Math.Min(_buffer.Length, end - at)));
        }
        Promise(end == reader.VirtualSize, "the extents do not fill the disk");
        // The last cluster may be cut where the disk ends.
        Promise(
            !sound || (data >= stored && data - stored < reader.Header.ClusterSize),
            $"the check counts {data} bytes of data, the extents {stored}"
        );
    }

    internal override IEnumerable<byte[]> Samples()
    {
        // Clusters of 512 bytes, so that many tables fit into a small file. Our writer makes only those of 64 KiB: made by hand.
        yield return SmallClusters();
    }

    private static byte[] SmallClusters()
    {
        const int Cluster = 512,
            Clusters = 8;
        byte[] f = new byte[Cluster * Clusters];
        Put32(0, 0x514649fb);
        Put32(4, 3);
        Put32(20, 9); // clusters of 2^9
        Put64(24, 64 * 512 * 2); // two L2 tables
        Put32(36, 2);
        Put64(40, 1 * Cluster); // L1
        Put64(48, 2 * Cluster); // refcount table
        Put32(56, 1);
        Put32(96, 4);
        Put32(100, 104);
        Put64(1 * Cluster, (ulong)(4 * Cluster) | 1UL << 63);
        Put64(1 * Cluster + 8, (ulong)(6 * Cluster) | 1UL << 63);
        Put64(2 * Cluster, 3 * Cluster); // refcount block
        for (int i = 0; i < Clusters; i++)
            BinaryPrimitives.WriteUInt16BigEndian(f.AsSpan((3 * Cluster) + (2 * i)), 1);
        Put64(4 * Cluster, (ulong)(5 * Cluster) | 1UL << 63);
        Put64(6 * Cluster + 24, (ulong)(7 * Cluster) | 1UL << 63);
        Put64(6 * Cluster + 32, 1); // zero
        f.AsSpan(5 * Cluster, Cluster).Fill(5);
        f.AsSpan(7 * Cluster, Cluster).Fill(7);
        return f;

        void Put32(int at, uint value) => BinaryPrimitives.WriteUInt32BigEndian(f.AsSpan(at), value);
        void Put64(int at, ulong value) => BinaryPrimitives.WriteUInt64BigEndian(f.AsSpan(at), value);
    }

    internal override int LargestInput => 32 << 10;

    protected override void CleanUp() => _folder.Dispose();
}
