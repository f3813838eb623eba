using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.Qemu.Vm;

namespace Bgsnap.NodeAgent.Tests.Capture;

public sealed class GuestRamTests
{
    private const ulong High = 0x7f0000200000,
        Low = 0x7e0000001000,
        Middle = 0x7e8000000000;

    // 5 MiB and a page; one page, below it; exactly one cluster.
    private static GuestRam Three() =>
        new([Block("pc.ram", High, (5 << 20) + 4096), Block("pc.rom", Low, 4096), Block("vga.vram", Middle, 2 << 20)]);

    private static RamBlock Block(string name, ulong start, ulong length) =>
        new(name, start, length, 4096, RamKind.Anonymous, new MemoryMapping(start, start + length, "rw-p", 0, "00:00", 0, ""));

    [Fact]
    public void Every_block_begins_a_cluster_and_the_log_has_no_gaps()
    {
        using GuestRam ram = Three();
        Assert.Equal([0L, 96, 128], ram.Blocks.Select(b => b.FirstGranule));
        Assert.Equal([81L, 1, 32], ram.Blocks.Select(b => b.Granules));
        Assert.Equal([0L, 81, 82], ram.Blocks.Select(b => b.FirstStored));
        Assert.Equal([3L, 1, 1], ram.Blocks.Select(b => b.Clusters));
        Assert.Equal((160L, 5L), (ram.Granules, ram.Clusters));
        Assert.Equal(82, ram.Blocks[2].StoredNumber(128));
        Assert.Equal([true, false, true], ram.Blocks.Select(b => b.IsClusterAligned));
    }

    [Fact]
    public void The_last_granule_and_the_last_cluster_are_short()
    {
        using GuestRam ram = Three();
        GuestRam.Block b = ram.Blocks[0];
        Assert.Equal((65536, 4096), (b.GranuleLength(79), b.GranuleLength(80)));
        Assert.Equal(High + (5 << 20), b.GranuleStart(80));
        Assert.Equal(b.End, b.ClusterEnd(2));
        Assert.Equal(High + (2 << 20), b.ClusterEnd(0));
        Assert.Equal([32, 32, 17], [GuestRam.GranulesIn(b, 0), GuestRam.GranulesIn(b, 1), GuestRam.GranulesIn(b, 2)]);
        Assert.Equal(4096, ram.Blocks[1].GranuleLength(96));
    }

    [Fact]
    public void An_address_leads_to_its_block_and_granule()
    {
        using GuestRam ram = Three();
        foreach (GuestRam.Block b in ram.Blocks)
        {
            Assert.Same(b, ram.Find(b.Start));
            Assert.Same(b, ram.Find(b.End - 1));
            Assert.Null(ram.Find(b.Start - 1));
            Assert.Null(ram.Find(b.End));
            Assert.Equal(b.FirstGranule, GuestRam.GranuleOf(b, b.Start));
            Assert.Equal(b.FirstGranule + b.Granules - 1, GuestRam.GranuleOf(b, b.End - 1));
            for (long c = b.FirstCluster; c < b.FirstCluster + b.Clusters; c++)
                Assert.Same(b, ram.BlockOfCluster(c));
        }
        Assert.Null(ram.Find(0));
        Assert.Null(ram.Find(ulong.MaxValue));
    }

    [Fact]
    public void The_window_begins_with_what_exists()
    {
        using GuestRam ram = Three();
        ram.SetKind(0, ClusterKind.Huge);
        ram.SetKind(2, ClusterKind.Small);
        ram.BeginWindow();
        Assert.Equal(32 + 17, ram.PendingGranules);
        Assert.Equal((2 << 20) + (1 << 20) + 4096, ram.ProtectedBytes);
        Assert.Equal([true, false, true, false, false], Enumerable.Range(0, 5).Select(c => ram.HasPending(c)));
        Assert.Equal((GuestRam.Pending, GuestRam.Done, GuestRam.Pending), (ram.State(0), ram.State(32), ram.State(80)));
        // The granules that only pad the last cluster belong to no block.
        Assert.Equal(GuestRam.Done, ram.State(81));
        Assert.False(ram.TryClaim(81));
        Assert.False(ram.TryClaim(32));
    }

    [Fact]
    public void A_small_cluster_is_pending_until_its_last_granule_is_claimed()
    {
        using GuestRam ram = Three();
        ram.SetKind(2, ClusterKind.Small);
        ram.BeginWindow();
        for (long g = 64; g < 81; g++)
        {
            Assert.True(ram.HasPending(2));
            Assert.True(ram.TryClaim(g));
            Assert.False(ram.TryClaim(g));
            Assert.Equal(GuestRam.Claimed, ram.State(g));
        }
        Assert.False(ram.HasPending(2));
        Assert.Equal(17, ram.PendingGranules);
        ram.MarkDone(64, 17);
        Assert.Equal((0L, GuestRam.Done), (ram.PendingGranules, ram.State(80)));
        Assert.False(ram.TryClaim(64));
    }

    [Fact]
    public void A_huge_cluster_is_claimed_by_its_first_granule()
    {
        using GuestRam ram = Three();
        ram.SetKind(4, ClusterKind.Huge);
        ram.BeginWindow();
        Assert.True(ram.TryClaim(128));
        Assert.False(ram.HasPending(4));
        ram.MarkDone(128, 32);
        Assert.Equal(0, ram.PendingGranules);
    }

    [Fact]
    public void Of_many_takers_one_wins()
    {
        using GuestRam ram = new([Block("mem", High, 64 << 20)]);
        for (long c = 0; c < ram.Clusters; c++)
            ram.SetKind(c, ClusterKind.Small);
        ram.BeginWindow();
        int won = 0;
        Parallel.For(0, 4, _ =>
        {
            for (long g = 0; g < ram.Granules; g++)
            {
                if (ram.TryClaim(g))
                    Interlocked.Increment(ref won);
            }
        });
        Assert.Equal(1024, won);
    }
}
