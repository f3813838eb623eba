using Bgsnap.Engine.Disks;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.NodeAgent.Tests.Disks;
using Bgsnap.SnapshotFormat.Qcow2;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>QEMU reads our qcow2 files, and we read QEMU's.</summary>
public sealed class QemuImgTests : IAsyncLifetime, IAsyncDisposable
{
    private readonly DiskTools _tools = new();

    public Task InitializeAsync() => Task.CompletedTask;

    Task IAsyncLifetime.DisposeAsync() => DisposeAsync().AsTask();

    public ValueTask DisposeAsync() => _tools.DisposeAsync();

    [SkippableFact]
    public async Task What_we_write_qemu_reads()
    {
        Requirements.NeedProgram(DiskTools.QemuImg);
        foreach (var (size, seed) in ((int, int)[])[(0, 1), (512, 2), (65536 * 3, 3), ((40 << 20) + 1536, 4), (200 << 20, 5)])
        {
            var disk = DiskSamples.RandomDisk(size, seed);
            await File.WriteAllBytesAsync(_tools["raw"], disk);
            DiskSamples.WriteQcow2(_tools["qcow2"], disk, seed);
            await _tools.SameAsync("raw", "raw", "qcow2");
        }
    }

    [SkippableFact]
    public async Task A_disk_of_several_l2_tables_and_an_empty_one_of_64_tib_are_sound()
    {
        Requirements.NeedProgram(DiskTools.QemuImg);
        WriteFar(_tools["far.qcow2"]);
        Assert.Contains("No errors", await DiskTools.RunAsync(DiskTools.QemuImg, "check", _tools["far.qcow2"]), StringComparison.Ordinal);
        using (var file = File.OpenHandle(_tools["empty.qcow2"], FileMode.Create, FileAccess.ReadWrite))
            Qcow2Writer.WriteEmpty(file, 1L << 46, "empty");
        Assert.Contains("No errors", await DiskTools.RunAsync(DiskTools.QemuImg, "check", _tools["empty.qcow2"]), StringComparison.Ordinal);
        Assert.Contains(
            "70368744177664 bytes",
            await DiskTools.RunAsync(DiskTools.QemuImg, "info", _tools["empty.qcow2"]),
            StringComparison.Ordinal
        );
    }

    [SkippableTheory]
    [InlineData("compat=1.1,cluster_size=65536")]
    [InlineData("compat=1.1,cluster_size=512")]
    [InlineData("compat=1.1,cluster_size=2M")]
    [InlineData("compat=0.10,cluster_size=4096")]
    [InlineData("compat=1.1,lazy_refcounts=on")]
    [InlineData("compat=1.1,preallocation=metadata")]
    public async Task What_qemu_writes_we_read(string options)
    {
        Requirements.NeedProgram(DiskTools.QemuImg);
        var disk = DiskSamples.RandomDisk(16 << 20, 7);
        await File.WriteAllBytesAsync(_tools["raw"], disk);
        await DiskTools.RunAsync(DiskTools.QemuImg, "convert", "-f", "raw", "-O", "qcow2", "-o", options, _tools["raw"], _tools["qcow2"]);
        Assert.True(disk.SequenceEqual(DiskSamples.ReadQcow2(_tools["qcow2"])));
        DiskSamples.Check(_tools["qcow2"]);
    }

    [SkippableFact]
    public async Task What_a_snapshot_does_not_hold_is_refused()
    {
        Requirements.NeedProgram(DiskTools.QemuImg);
        await File.WriteAllBytesAsync(_tools["raw"], DiskSamples.RandomDisk(4 << 20, 7));
        await DiskTools.RunAsync(DiskTools.QemuImg, "convert", "-f", "raw", "-O", "qcow2", _tools["raw"], _tools["base"]);
        await Refused("backing file", "create", "-f", "qcow2", "-b", _tools["base"], "-F", "qcow2", _tools["bad"]);
        await Refused("compressed", "convert", "-c", "-f", "raw", "-O", "qcow2", _tools["raw"], _tools["bad"]);
        await Refused("incompatible", "convert", "-f", "raw", "-O", "qcow2", "-o", "extended_l2=on", _tools["raw"], _tools["bad"]);
        await Refused(
            "incompatible",
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            "-o",
            $"data_file={_tools["data"]}",
            _tools["raw"],
            _tools["bad"]
        );
        await Refused("refcounts", "convert", "-f", "raw", "-O", "qcow2", "-o", "refcount_bits=64", _tools["raw"], _tools["bad"]);
        await Refused(
            "encrypted",
            "create",
            "-f",
            "qcow2",
            "--object",
            "secret,id=s,data=x",
            "-o",
            "encrypt.format=luks,encrypt.key-secret=s",
            _tools["bad"],
            "4M"
        );
        await Refused("not qcow2 at all", null, "convert", "-f", "raw", "-O", "vmdk", _tools["raw"], _tools["bad"]);
        File.Copy(_tools["base"], _tools["bad"], overwrite: true);
        await Refused("internal snapshots", "snapshot", "-c", "one", _tools["bad"]);
    }

    [SkippableTheory]
    [InlineData("raw")]
    [InlineData("qcow2")]
    public async Task Images_are_written_back_in_place(string driver)
    {
        Requirements.NeedProgram(DiskTools.QemuImg);
        var disk = DiskSamples.RandomDisk(32 << 20, 11);
        await File.WriteAllBytesAsync(_tools["expected"], disk);
        DiskSamples.WriteQcow2(_tools["snapshot"], disk);
        await File.WriteAllBytesAsync(_tools["raw"], DiskSamples.RandomDisk(48 << 20, 12));
        await DiskTools.RunAsync(DiskTools.QemuImg, "convert", "-f", "raw", "-O", driver, _tools["raw"], _tools["target"]);
        WriteBack(_tools["snapshot"], _tools["target"], driver);
        await DiskTools.RunAsync(DiskTools.QemuImg, "compare", "-f", "raw", "-F", driver, _tools["expected"], _tools["target"]);
        var used = (await DiskTools.RunAsync("/usr/bin/stat", "-c", "%b", _tools["target"])).Trim();
        Assert.InRange(
            long.Parse(used, System.Globalization.CultureInfo.InvariantCulture) * 512,
            0,
            DiskSamples.DataBytes(disk) + (1 << 20)
        );
    }

    [SkippableTheory]
    [InlineData("raw", 32)]
    [InlineData("raw", 40)]
    [InlineData("qcow2", 64)]
    public async Task A_block_device_is_written_and_what_it_held_before_is_gone(string driver, int deviceMiB)
    {
        Requirements.NeedRoot();
        Requirements.NeedProgram(DiskTools.QemuImg);
        var disk = DiskSamples.RandomDisk(32 << 20, 11);
        DiskSamples.WriteQcow2(_tools["snapshot"], disk);
        await using var device = await LoopDevice.CreateAsync(_tools["backing"], deviceMiB);
        WriteBack(_tools["snapshot"], device.Path, driver);
        if (driver == "raw")
        {
            var got = await File.ReadAllBytesAsync(device.Path);
            byte[] expected = [.. disk, .. new byte[got.Length - disk.Length]];
            Assert.True(expected.SequenceEqual(got));
        }
        else
        {
            await File.WriteAllBytesAsync(_tools["expected"], disk);
            await DiskTools.RunAsync(DiskTools.QemuImg, "compare", "-f", "raw", "-F", "qcow2", _tools["expected"], device.Path);
        }
    }

    [SkippableFact]
    public async Task A_block_device_that_is_too_small_is_left_alone()
    {
        Requirements.NeedRoot();
        DiskSamples.WriteQcow2(_tools["snapshot"], DiskSamples.RandomDisk(32 << 20, 11));
        await using var device = await LoopDevice.CreateAsync(_tools["backing"], 31);
        var before = await File.ReadAllBytesAsync(device.Path);
        var e = Assert.Throws<Linux.LinuxException>(() => WriteBack(_tools["snapshot"], device.Path, "raw"));
        Assert.Equal(Linux.Errno.ENOSPC, e.Errno);
        Assert.Contains(device.Path, e.Message, StringComparison.Ordinal);
        var after = await File.ReadAllBytesAsync(device.Path);
        Assert.True(before.SequenceEqual(after));
    }

    private static void WriteBack(string snapshot, string target, string driver)
    {
        using var source = File.OpenHandle(snapshot);
        using SafeFileHandle image = Linux.FileSyscalls.OpenAt(null, target, Linux.FileSyscalls.O_RDWR);
        DiskImageWriter.Write(Qcow2Reader.Open(source, RandomAccess.GetLength(source), snapshot), image, target, driver, null, default);
    }

    private static unsafe void WriteFar(string path)
    {
        using var file = File.OpenHandle(path, FileMode.Create, FileAccess.ReadWrite);
        using Qcow2Writer writer = new(file, path, 3L << 40);
        var data = new byte[65536];
        fixed (byte* p = data)
        {
            for (var i = 0; i < 100; i++)
            {
                data[i] = 1;
                writer.Write(i * 31L * 65536 * 8191, p, data.Length);
            }
        }
        _ = writer.Finish();
    }

    private async Task Refused(string words, params string?[] qemuImg)
    {
        var bare = qemuImg[0] is null;
        await DiskTools.RunAsync([DiskTools.QemuImg, .. qemuImg.OfType<string>()]);
        using var file = File.OpenHandle(_tools["bad"]);
        var e = Assert.Throws<SnapshotCorruptException>(() =>
        {
            var reader = Qcow2Reader.Open(file, RandomAccess.GetLength(file), "bad");
            Assert.NotEmpty(reader.Extents().ToList());
        });
        Assert.Contains(bare ? "not a qcow2 file" : words, e.Message, StringComparison.Ordinal);
        File.Delete(_tools["bad"]);
    }
}
