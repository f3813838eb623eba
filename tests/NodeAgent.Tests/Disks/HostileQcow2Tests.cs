using System.Buffers.Binary;
using Bgsnap.NodeAgent.Tests.Store;
using Bgsnap.SnapshotFormat.Qcow2;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tests.Disks;

/// <summary>An attacker who can write the file can also correct its checksum: hostile tables must do no harm.</summary>
public sealed class HostileQcow2Tests : IDisposable
{
    private const int Cluster = DiskSamples.Cluster;
    private readonly TempDirectory _temp = new();
    private readonly byte[] _disk = new byte[2 << 20];
    private readonly byte[] _good;
    private readonly int _l1,
        _l2,
        _table,
        _block;

    public HostileQcow2Tests()
    {
        new Random(3).NextBytes(_disk);
        _disk.AsSpan(5 * Cluster, 2 * Cluster).Clear();
        DiskSamples.WriteQcow2(Image, _disk);
        _good = File.ReadAllBytes(Image);
        _l1 = (int)BinaryPrimitives.ReadInt64BigEndian(_good.AsSpan(40));
        _table = (int)BinaryPrimitives.ReadInt64BigEndian(_good.AsSpan(48));
        _l2 = (int)(BinaryPrimitives.ReadUInt64BigEndian(_good.AsSpan(_l1)) & 0x00ff_ffff_ffff_fe00);
        _block = (int)BinaryPrimitives.ReadInt64BigEndian(_good.AsSpan(_table));
    }

    private string Image => _temp.Sub("disk.qcow2");

    public void Dispose() => _temp.Dispose();

    [Fact]
    public void Every_flipped_bit_of_the_tables_is_found_or_harmless()
    {
        int found = 0,
            flips = 0;
        // The fields of the header, the used entries of each table, and the first unused one.
        foreach ((int from, int length) in ((int, int)[])[(0, 104), (_l1, 8), (_l2, 32 * 8), (_table, 16), (_block, 64 * 2)])
        {
            for (int bit = 0; bit < length * 8; bit++)
            {
                byte[] bad = [.. _good];
                bad[from + (bit / 8)] ^= (byte)(1 << (bit % 8));
                flips++;
                if (Problem(bad) is not null)
                    found++;
                else
                    Assert.True(IsHarmless(from + (bit / 8)), $"bit {bit % 8} of byte {from + (bit / 8)}");
            }
        }
        Assert.True(found > flips * 9 / 10, $"{found} of {flips}");
    }

    // Harmless changes in the header: the version (2 is read as well), a backing file's length without the file, more L1 entries than
    // needed, the offset of no snapshots, compatible features, and a longer header. In the L2 table: "reads as zeros" for the two clusters
    // that are zero.
    private bool IsHarmless(int at) =>
        at == _l2 + (5 * 8) + 7
        || at == _l2 + (6 * 8) + 7
        || at is 7 or (>= 16 and < 20) or (>= 36 and < 40) or (>= 64 and < 72) or (>= 80 and < 96) or (>= 100 and < 104);

    [Theory]
    [InlineData(24, 8, 0x7fff_ffff_ffff_fe00UL)] // an absurd disk
    [InlineData(24, 8, (1UL << 46) + 512)]
    [InlineData(24, 8, 1UL << 45)] // too large for its L1 table
    [InlineData(24, 8, 513)]
    [InlineData(20, 4, 8)] // clusters
    [InlineData(20, 4, 22)]
    [InlineData(20, 4, 63)]
    [InlineData(20, 4, 0xffff_ffff)]
    [InlineData(4, 4, 1)] // version
    [InlineData(4, 4, 4)]
    [InlineData(8, 8, 4096)] // a backing file
    [InlineData(32, 4, 1)] // encryption
    [InlineData(32, 4, 2)]
    [InlineData(36, 4, 0)] // L1 entries
    [InlineData(36, 4, 0xffff_ffff)]
    [InlineData(36, 4, 0x0040_0000)]
    [InlineData(40, 8, 0)] // L1 table
    [InlineData(40, 8, 512)]
    [InlineData(40, 8, 0x7fff_ffff_ffff_0000UL)]
    [InlineData(40, 8, 0xffff_ffff_ffff_0000UL)]
    [InlineData(48, 8, 0)] // refcount table
    [InlineData(48, 8, 0x7fff_ffff_ffff_0000UL)]
    [InlineData(56, 4, 0)]
    [InlineData(56, 4, 129)]
    [InlineData(56, 4, 0xffff_ffff)]
    [InlineData(60, 4, 1)] // internal snapshots
    [InlineData(72, 8, 1)] // dirty
    [InlineData(72, 8, 2)] // corrupt
    [InlineData(72, 8, 4)] // external data file
    [InlineData(72, 8, 8)] // another compression
    [InlineData(72, 8, 16)] // subclusters
    [InlineData(72, 8, 1UL << 63)]
    [InlineData(96, 4, 3)] // refcount width
    [InlineData(96, 4, 0xffff_ffff)]
    [InlineData(100, 4, 96)] // header length
    [InlineData(100, 4, 0xffff_fff8)]
    public void Headers_that_no_snapshot_has_are_refused_at_once(int at, int bytes, ulong value)
    {
        byte[] bad = [.. _good];
        if (bytes == 4)
            BinaryPrimitives.WriteUInt32BigEndian(bad.AsSpan(at), (uint)value);
        else
            BinaryPrimitives.WriteUInt64BigEndian(bad.AsSpan(at), value);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.NotNull(Problem(bad));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 4 << 20);
    }

    [Fact]
    public void Tables_that_point_at_themselves_each_other_or_outside_are_found()
    {
        ulong copied = 1UL << 63;
        Refused("used twice", _l1, copied | (uint)_l1); // an L2 table that is the L1 table
        Refused("used twice", _l2, copied | (uint)_l2); // data that is its own L2 table
        Refused("used twice", _l2, copied | (uint)_table);
        Refused("used twice", _l2, copied | (BinaryPrimitives.ReadUInt64BigEndian(_good.AsSpan(_l2 + 8)) & ~copied));
        Refused("cannot be at", _l1, copied); // the header
        Refused("cannot be at", _l2, copied);
        Refused("cannot be at", _l1, copied | (uint)_good.Length); // just beyond the end
        Refused("cannot be at", _l2, copied | (uint)_good.Length);
        Refused("cannot be at", _l2, copied | 0x00ff_ffff_ffff_0000);
        Refused("cannot be at", _l2, copied | (uint)(Cluster + 512)); // not a cluster
        Refused("compressed", _l2, (1UL << 62) | Cluster);
        Refused("must be zero", _l2, copied | (1UL << 60) | Cluster);
        Refused("must be zero", _l1, copied | (uint)_l2 | 1);
        Refused("not marked", _l2, Cluster);
        Refused("not marked", _l1, (uint)_l2);
        Refused("cannot be at", _table, (uint)_good.Length);
        Refused("used twice", _table + 8, (uint)_block);
        Refused("is counted", _table, 0);
        Refused("is counted", _block, 0x0002_0001_0001_0001);
    }

    [Fact]
    public void Every_shortened_file_is_found()
    {
        for (int length = 0; length < _good.Length; length += length < 200 ? 1 : 4099)
            Assert.NotNull(Problem(_good[..length]));
    }

    [Fact]
    public void A_huge_sparse_file_takes_neither_memory_nor_long()
    {
        File.WriteAllBytes(Image, _good);
        using (SafeFileHandle file = File.OpenHandle(Image, FileMode.Open, FileAccess.ReadWrite))
            RandomAccess.SetLength(file, 1L << 40);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Equal(DiskSamples.DataBytes(_disk), DiskSamples.Check(Image));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 4 << 20);
    }

    private void Refused(string words, int at, ulong value)
    {
        byte[] bad = [.. _good];
        BinaryPrimitives.WriteUInt64BigEndian(bad.AsSpan(at), value);
        SnapshotCorruptException problem = Assert.IsType<SnapshotCorruptException>(Problem(bad));
        Assert.Contains(words, problem.Message, StringComparison.Ordinal);
        Assert.Equal(Image, problem.File);
    }

    // Opens, walks, reads and checks; anything but SnapshotCorruptException fails the test.
    private SnapshotCorruptException? Problem(byte[] image)
    {
        File.WriteAllBytes(Image, image);
        try
        {
            using SafeFileHandle file = File.OpenHandle(Image);
            Qcow2Reader reader = Qcow2Reader.Open(file, image.Length, Image);
            long before = 0;
            byte[] bytes = new byte[4096];
            foreach (DiskExtent extent in reader.Extents().Take(10_000))
            {
                Assert.Equal(before, extent.Offset);
                before += extent.Length;
                reader.Read(extent.Offset, bytes.AsSpan(0, (int)Math.Min(extent.Length, bytes.Length)));
            }
            long data = Qcow2Check.Run(reader);
            // The manifest contains these two values, too.
            return reader.VirtualSize == _disk.Length && data == DiskSamples.DataBytes(_disk)
                ? null
                : new SnapshotCorruptException(Image, 0, "another disk");
        }
        catch (SnapshotCorruptException e)
        {
            return e;
        }
    }
}
