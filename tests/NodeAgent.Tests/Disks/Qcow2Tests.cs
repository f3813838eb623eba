using Bgsnap.NodeAgent.Tests.Store;
using Bgsnap.SnapshotFormat.Qcow2;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tests.Disks;

public sealed unsafe class Qcow2Tests : IDisposable
{
    private readonly TempDirectory _temp = new();

    private string Image => _temp.Sub("disk.qcow2");

    public void Dispose() => _temp.Dispose();

    [Theory]
    [InlineData(0)]
    [InlineData(512)]
    [InlineData(65536)]
    [InlineData(65536 + 512)]
    [InlineData((5 << 20) - 512)]
    [InlineData(24 << 20)]
    public void Disks_read_back(int size)
    {
        for (int seed = 0; seed < 4; seed++)
        {
            byte[] disk = DiskSamples.RandomDisk(size, seed);
            (long stored, long data) = DiskSamples.WriteQcow2(Image, disk, seed);
            Assert.Equal(new FileInfo(Image).Length, stored);
            Assert.Equal(DiskSamples.DataBytes(disk), data);
            Assert.Equal(data, DiskSamples.Check(Image));
            Assert.True(disk.AsSpan().SequenceEqual(DiskSamples.ReadQcow2(Image, seed)), $"seed {seed}");
            // Header, one L2 table for each 512 MiB, L1 table, refcount block and table: nothing else.
            Assert.InRange(stored, data + (3 * DiskSamples.Cluster), data + (5 * DiskSamples.Cluster));
        }
    }

    [Fact]
    public void Zeros_take_no_space_and_extents_say_where_they_are()
    {
        byte[] disk = new byte[40 * DiskSamples.Cluster];
        disk[3 * DiskSamples.Cluster] = 1;
        disk[(5 * DiskSamples.Cluster) - 1] = 1;
        disk[^1] = 1;
        DiskSamples.WriteQcow2(Image, disk);
        using SafeFileHandle file = File.OpenHandle(Image);
        Qcow2Reader reader = Qcow2Reader.Open(file, RandomAccess.GetLength(file), Image);
        const int C = DiskSamples.Cluster;
        Assert.Equal(
            [
                new DiskExtent(0, 3 * C, false),
                new DiskExtent(3 * C, 2 * C, true),
                new DiskExtent(5 * C, 34 * C, false),
                new DiskExtent(39 * C, C, true),
            ],
            reader.Extents()
        );
    }

    [Fact]
    public void The_largest_disk_takes_little_memory_and_only_what_it_holds()
    {
        const long Size = 1L << 46;
        long[] places = [0, Size / 3 / DiskSamples.Cluster * DiskSamples.Cluster, Size - DiskSamples.Cluster];
        // The first use of a type allocates, but writing must not: the second image counts.
        _ = WritePlaces(_temp.Sub("first"), Size, places);
        (long allocated, long length) = WritePlaces(Image, Size, places);
        Assert.Equal(0, allocated);
        // An L1 table of 1 MiB, three clusters with their L2 tables, header and refcounts.
        Assert.Equal((1 << 20) + (9 * DiskSamples.Cluster), length);
        Assert.Equal(3 * DiskSamples.Cluster, DiskSamples.Check(Image));
        using SafeFileHandle back = File.OpenHandle(Image);
        Qcow2Reader reader = Qcow2Reader.Open(back, RandomAccess.GetLength(back), Image);
        Assert.Equal(places, reader.Extents().Where(e => e.IsData).Select(e => e.Offset));
        byte[] got = new byte[8];
        for (int i = 0; i < places.Length; i++)
        {
            reader.Read(places[i], got);
            Assert.Equal([0, 0, 0, 0, 0, 0, 0, (byte)(i + 1)], got);
        }
    }

    private static (long Allocated, long Length) WritePlaces(string image, long size, long[] places)
    {
        using SafeFileHandle file = File.OpenHandle(image, FileMode.Create, FileAccess.ReadWrite);
        using Qcow2Writer writer = new(file, image, size);
        byte[] cluster = new byte[DiskSamples.Cluster];
        long before = GC.GetAllocatedBytesForCurrentThread();
        fixed (byte* p = cluster)
        {
            for (int i = 0; i < places.Length; i++)
            {
                cluster[7] = (byte)(i + 1);
                writer.Write(places[i], p, cluster.Length);
            }
        }
        return (GC.GetAllocatedBytesForCurrentThread() - before, writer.Finish());
    }

    [Fact]
    public void An_empty_disk_has_its_whole_l1_table()
    {
        using (SafeFileHandle file = File.OpenHandle(Image, FileMode.Create, FileAccess.ReadWrite))
            Qcow2Writer.WriteEmpty(file, 10L << 30, Image);
        Assert.Equal(4 * DiskSamples.Cluster, new FileInfo(Image).Length);
        Assert.Equal(0, DiskSamples.Check(Image));
        using SafeFileHandle back = File.OpenHandle(Image);
        Qcow2Reader reader = Qcow2Reader.Open(back, RandomAccess.GetLength(back), Image);
        Assert.Equal(20, reader.Header.L1Entries);
        Assert.Equal([new DiskExtent(0, 10L << 30, false)], reader.Extents());
    }

    [Fact]
    public void Half_a_disk_is_no_qcow2_file()
    {
        using SafeFileHandle file = File.OpenHandle(Image, FileMode.Create, FileAccess.ReadWrite);
        using Qcow2Writer writer = new(file, Image, 1 << 20);
        byte[] data = DiskSamples.RandomDisk(1 << 20, 1);
        fixed (byte* p = data)
            writer.Write(0, p, data.Length);
        Assert.Throws<Bgsnap.SnapshotFormat.Store.SnapshotCorruptException>(() =>
            Qcow2Reader.Open(file, RandomAccess.GetLength(file), Image)
        );
    }

    [Fact]
    public void Only_what_comes_next_is_taken()
    {
        using SafeFileHandle file = File.OpenHandle(Image, FileMode.Create, FileAccess.ReadWrite);
        using Qcow2Writer writer = new(file, Image, (1 << 20) + 512);
        byte[] data = new byte[2 << 20];
        void Write(long offset, int length)
        {
            fixed (byte* p = data)
                writer.Write(offset, p, length);
        }

        Assert.Throws<ArgumentException>(() => Write(512, 65536));
        Assert.Throws<ArgumentException>(() => Write(0, 512));
        Assert.Throws<ArgumentException>(() => Write(0, 2 << 20));
        Write(65536, 65536);
        Assert.Throws<ArgumentException>(() => Write(65536, 65536));
        Write(1 << 20, 512);
        _ = writer.Finish();
        Assert.Throws<ArgumentException>(() => Write(1 << 20, 512));
        Assert.Throws<ArgumentOutOfRangeException>(() => new Qcow2Writer(file, Image, 513));
        Assert.Throws<ArgumentOutOfRangeException>(() => new Qcow2Writer(file, Image, (1L << 46) + 512));
    }
}
