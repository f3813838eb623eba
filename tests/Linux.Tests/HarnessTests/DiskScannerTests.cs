using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.HarnessTests;

/// <summary>
/// Tests the scanner of every capture with disks: it must detect each way in which a disk can be of another instant than memory.
/// </summary>
public sealed class DiskScannerTests : IDisposable
{
    private static readonly DiskRecord Memory = new(IsFiles: false, Disks: 2, Slots: 5, StrideKiB: 8, Issued: 33, Acknowledged: 33);
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("bgsnap-scanner-");

    public void Dispose() => _folder.Delete(recursive: true);

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(7)]
    [InlineData(10)]
    [InlineData(11)]
    [InlineData(33)]
    public void Disks_up_to_the_acknowledged_number_agree(long number)
    {
        var verdict = DiskScanner.Judge(Memory with { Issued = number, Acknowledged = number }, Images(number));

        Assert.True(verdict.Agrees, verdict.ToString());
        Assert.Equal((number, 10), (verdict.Newest, verdict.Slots));
    }

    [Theory]
    [InlineData(32)]
    [InlineData(33)]
    public void A_write_under_way_may_be_there_or_not(long onDisk) =>
        Assert.True(DiskScanner.Judge(Memory with { Acknowledged = 32 }, Images(onDisk)).Agrees);

    [Fact]
    public void A_write_under_way_may_be_half_there()
    {
        var images = Images(33);
        Damage(images, 33);

        Assert.True(DiskScanner.Judge(Memory with { Acknowledged = 32 }, images).Agrees);
    }

    [Fact]
    public void An_acknowledged_write_that_is_missing_is_seen() => Disagrees(Images(32), "an acknowledged write is missing");

    [Fact]
    public void A_write_of_after_the_point_in_time_is_seen() => Disagrees(Images(34), "from after the point in time");

    [Fact]
    public void One_disk_behind_the_other_is_seen()
    {
        var images = Images(33);
        Write(images, 22); // where 32 was: the second disk lost its last write

        Disagrees(images, "disk 1 slot 0 holds 22, not 32");
    }

    [Fact]
    public void An_old_write_in_the_middle_is_seen()
    {
        var images = Images(33);
        Write(images, 27 - 10);

        Disagrees(images, "holds 17, not 27");
    }

    [Fact]
    public void A_block_that_is_half_written_is_seen()
    {
        var images = Images(33);
        Damage(images, 30);

        Disagrees(images, "a broken block");
    }

    [Fact]
    public void A_block_of_another_slot_or_disk_is_seen()
    {
        var images = Images(33);
        using (var file = File.OpenHandle(images[0], FileMode.Open, FileAccess.Write))
            RandomAccess.Write(file, DiskScanner.MakeBlock(Memory, 32), Place(33));

        Disagrees(images, "a broken block");
    }

    [Fact]
    public void Disks_that_are_exchanged_are_seen() => Disagrees([.. Images(33).Reverse()], "a broken block");

    [Fact]
    public void A_disk_that_is_missing_is_seen() => Disagrees(Images(33)[..1], "2 disks, 1 were captured");

    [Fact]
    public void An_empty_disk_is_seen()
    {
        var images = Images(33);
        using (var file = File.OpenHandle(images[1], FileMode.Open, FileAccess.Write))
            RandomAccess.SetLength(file, 0);

        Disagrees(images, "holds 0");
    }

    [Fact]
    public void Memory_that_is_torn_is_seen()
    {
        var verdict = DiskScanner.Judge(Memory with { Acknowledged = 30 }, Images(33));

        Assert.False(verdict.Agrees);
        Assert.Contains("torn", verdict.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void The_record_is_found_once_in_memory()
    {
        var page = new byte[4096];
        "BGSNAPRC"u8.CopyTo(page);
        for (var i = 0; i < 8; i++)
            page[4088 + i] = (byte)~page[i];
        (page[8], page[12], page[16], page[20], page[24], page[32]) = (1, 2, 5, 8, 33, 32);
        ReadOnlyMemory<byte> image = new byte[8192]
            .Concat(page)
            .ToArray();

        Assert.Equal(Memory with { Acknowledged = 32 }, DiskRecord.Find([image]));
        Assert.Throws<InvalidDataException>(() => DiskRecord.Find([image, page]));
        Assert.Throws<InvalidDataException>(() => DiskRecord.Find([new byte[8192]]));
    }

    private static void Disagrees(string[] images, string why)
    {
        var verdict = DiskScanner.Judge(Memory, images);
        Assert.False(verdict.Agrees);
        Assert.Contains(why, verdict.ToString(), StringComparison.Ordinal);
    }

    /// <summary>Creates both disks as they are after that many writes.</summary>
    private string[] Images(long last)
    {
        string[] images = [Path.Combine(_folder.FullName, "a"), Path.Combine(_folder.FullName, "b")];
        foreach (var image in images)
            File.WriteAllBytes(image, new byte[Memory.Slots * Memory.StrideKiB * 1024]);
        for (var number = 1; number <= last; number++)
            Write(images, number);
        return images;
    }

    private static long Place(long number) => (number - 1) / Memory.Disks % Memory.Slots * Memory.StrideKiB * 1024;

    private static void Write(string[] images, long number)
    {
        using var file = File.OpenHandle(images[(number - 1) % Memory.Disks], FileMode.Open, FileAccess.Write);
        RandomAccess.Write(file, DiskScanner.MakeBlock(Memory, number), Place(number));
    }

    private static void Damage(string[] images, long number)
    {
        using var file = File.OpenHandle(images[(number - 1) % Memory.Disks], FileMode.Open, FileAccess.Write);
        RandomAccess.Write(file, new byte[512], Place(number) + 2048);
    }
}
