using System.Security.Cryptography;
using Bgsnap.Engine.Disks;
using Bgsnap.Engine.Disks.Nbd;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.NodeAgent.Tests.Disks;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>The agent copies what QEMU's own NBD server exports.</summary>
public sealed class DiskCopyTests : IAsyncLifetime, IAsyncDisposable
{
    private readonly DiskTools _tools = new();

    public Task InitializeAsync() => Task.CompletedTask;

    Task IAsyncLifetime.DisposeAsync() => DisposeAsync().AsTask();

    public ValueTask DisposeAsync() => _tools.DisposeAsync();

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(4)]
    public async Task A_sparse_raw_image_is_copied(int connections)
    {
        Requirements.NeedProgram(DiskTools.QemuNbd);
        await MakeSparseAsync("raw", 96 << 20, 3);
        var (_, sockets) = await _tools.ServeAsync("raw", "raw", connections);
        long total = 0,
            copied = 0;
        var result = Copy(sockets, _tools["copy"], new DiskCopyHooks { Total = bytes => total = bytes, Copied = bytes => copied += bytes });
        await _tools.SameAsync("raw", "raw", "copy");
        Assert.Equal(total, copied);
        // The agent did not read the holes, and stored less than the size of the disk.
        Assert.InRange(copied, result.DataBytes, 60 << 20);
        Assert.Equal($"sha256:{Convert.ToHexStringLower(SHA256.HashData(await File.ReadAllBytesAsync(_tools["copy"])))}", result.Checksum);
    }

    [SkippableFact]
    public async Task A_chain_of_backing_files_is_copied_as_one_disk()
    {
        Requirements.NeedProgram(DiskTools.QemuNbd);
        await MakeSparseAsync("raw", 64 << 20, 5);
        await DiskTools.RunAsync(
            DiskTools.QemuImg,
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            "-o",
            "cluster_size=4096",
            _tools["raw"],
            _tools["base"]
        );
        await DiskTools.RunAsync(DiskTools.QemuImg, "create", "-f", "qcow2", "-b", _tools["base"], "-F", "qcow2", _tools["top"]);
        // Over the base: data, and zeros that hide data.
        await DiskTools.RunAsync(
            "/usr/bin/qemu-io",
            "-f",
            "qcow2",
            "-c",
            "write -P 7 1000k 3000k",
            "-c",
            "write -z 20000k 9000k",
            "-c",
            "write -P 0 40000k 100k",
            _tools["top"]
        );
        var (_, sockets) = await _tools.ServeAsync("top", "qcow2", 3);
        var result = Copy(sockets, _tools["copy"]);
        await _tools.SameAsync("top", "qcow2", "copy");
        Assert.Equal(result.DataBytes, DiskSamples.Check(_tools["copy"]));
    }

    [SkippableFact]
    public async Task A_server_that_dies_in_the_middle_is_told_and_no_disk_is_left()
    {
        Requirements.NeedProgram(DiskTools.QemuNbd);
        await MakeSparseAsync("raw", 96 << 20, 3);
        var (server, sockets) = await _tools.ServeAsync("raw", "raw", 3);
        var e = Assert.Throws<NbdException>(() =>
            Copy(
                sockets,
                _tools["copy"],
                new DiskCopyHooks
                {
                    Copied = _ =>
                    {
                        server.Signal(9);
                        Thread.Sleep(20);
                    },
                }
            )
        );
        Assert.Contains("connection was cut", e.Message, StringComparison.Ordinal);
        Assert.NotEqual(0, (await DiskTools.TryAsync(DiskTools.QemuImg, "info", "-f", "qcow2", _tools["copy"])).ExitCode);
    }

    [SkippableFact]
    public async Task A_stopped_server_is_given_up()
    {
        Requirements.NeedProgram(DiskTools.QemuNbd);
        await MakeSparseAsync("raw", 96 << 20, 3);
        var (server, sockets) = await _tools.ServeAsync("raw", "raw", 2);
        var e = Assert.Throws<NbdException>(() =>
            Copy(sockets, _tools["copy"], new DiskCopyHooks { Copied = _ => server.Signal(19) }, TimeSpan.FromSeconds(2))
        );
        server.Signal(18);
        Assert.Contains("has not answered within 2 s", e.Message, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task A_full_target_is_told_with_its_name()
    {
        Requirements.NeedRoot();
        Requirements.NeedProgram(DiskTools.QemuNbd);
        await MakeSparseAsync("raw", 96 << 20, 3);
        var (_, sockets) = await _tools.ServeAsync("raw", "raw", 2);
        Directory.CreateDirectory(_tools["small"]);
        await DiskTools.RunAsync("/bin/mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", _tools["small"]);
        try
        {
            var e = Assert.Throws<LinuxException>(() => Copy(sockets, _tools["small/vda.qcow2"]));
            Assert.Equal(Errno.ENOSPC, e.Errno);
            Assert.Contains("small/vda.qcow2", e.Message, StringComparison.Ordinal);
        }
        finally
        {
            await DiskTools.RunAsync("/bin/umount", _tools["small"]);
        }
    }

    /// <summary>A raw image with holes, data, and written zeros.</summary>
    private async Task MakeSparseAsync(string name, long size, int seed)
    {
        var random = new Random(seed);
        List<string> writes = [];
        for (long at = random.Next(1 << 20); at < size - (8 << 20); at += random.Next(4 << 20, 12 << 20))
            writes.AddRange(["-c", $"write -P {random.Next(256) % 3} {at / 512 * 512} {random.Next(1, 6000) * 512}"]);
        await DiskTools.RunAsync(DiskTools.QemuImg, "create", "-f", "raw", _tools[name], $"{size}");
        await DiskTools.RunAsync(["/usr/bin/qemu-io", "-f", "raw", .. writes, _tools[name]]);
    }

    private static DiskCopyResult Copy(UnixSocket[] sockets, string path, DiskCopyHooks? hooks = null, TimeSpan? patience = null)
    {
        using SafeFileHandle file = FileSyscalls.OpenAt(null, path, FileSyscalls.O_WRONLY | FileSyscalls.O_CREAT, 0x180);
        return DiskCopy.Run(sockets, "agent-disk0", file, path, hooks ?? new DiskCopyHooks(), default, patience);
    }
}
