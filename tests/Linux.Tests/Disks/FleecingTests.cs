using Bgsnap.Engine.Disks;
using Bgsnap.Engine.Disks.Nbd;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.NodeAgent.Tests.Disks;
using Bgsnap.Qemu.Qmp;
using Bgsnap.SnapshotFormat.Qcow2;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>The export that a capture copies, while the disk is overwritten.</summary>
public sealed class FleecingTests : IAsyncLifetime, IAsyncDisposable
{
    private const string Export = "agent-disk0";
    private readonly DiskTools _tools = new();

    public Task InitializeAsync() => Task.CompletedTask;

    Task IAsyncLifetime.DisposeAsync() => DisposeAsync().AsTask();

    public ValueTask DisposeAsync() => _tools.DisposeAsync();

    [SkippableTheory]
    [InlineData(QemuVersion.System, true)]
    [InlineData(QemuVersion.System, false)]
    [InlineData(QemuVersion.Unpacked10, true)]
    [InlineData(QemuVersion.Unpacked10, false)]
    public async Task The_copy_is_the_disk_as_it_was_although_all_of_it_is_overwritten(QemuVersion version, bool trim)
    {
        await using var qemu = await StartAsync(version);
        using var qmp = Fleece();
        var sockets = _tools.Connect(_tools["nbd.sock"], 3);
        Task? overwriting = null;
        DiskCopyHooks hooks = new()
        {
            Trim = trim,
            Copied = bytes =>
            {
                // From the first chunk on; the copy is slow enough to meet the writes.
                overwriting ??= OverwriteAsync();
                if (!overwriting.IsCompleted)
                    Thread.Sleep(5);
            },
        };
        using (var file = FileSyscalls.OpenAt(null, _tools["copy"], FileSyscalls.O_WRONLY | FileSyscalls.O_CREAT, 0x180))
        {
            _ = await Task.Run(() => DiskCopy.Run(sockets, Export, file, "copy", hooks, default));
            await overwriting!;
        }

        if (trim)
        {
            // The chunk is gone from the server's snapshot: the server refuses a second read with an error.
            var client = NbdClient.Negotiate(_tools.Connect(_tools["nbd.sock"], 1)[0], Export, default);
            var e = Assert.Throws<NbdException>(() => ReadOne(client));
            Assert.Contains("Read of 65536 bytes at offset 0 failed", e.Message, StringComparison.Ordinal);
            Assert.NotEqual(Errno.EIO, e.Errno);
        }

        using (qmp.Execute("block-export-del", QmpJson.Object(("id", "export"), ("mode", "hard")))) { }

        await _tools.SameAsync("before.raw", "raw", "copy");
        // Our copy did not delay the guest's writes.
        Assert.Contains(
            "identical",
            (
                await DiskTools.RunAsync(
                    DiskTools.QemuImg,
                    "compare",
                    "-U",
                    "-f",
                    "raw",
                    "-F",
                    "raw",
                    _tools["disk.raw"],
                    _tools["after.raw"]
                )
            ),
            StringComparison.Ordinal
        );
    }

    private static unsafe void ReadOne(NbdClient client)
    {
        var room = new byte[65536];
        fixed (byte* p = room)
            client.Read(0, room.Length, p);
    }

    private Task<string> OverwriteAsync() =>
        DiskTools.RunAsync("/usr/bin/qemu-io", "-f", "raw", "-c", "write -P 9 0 48M", $"nbd+unix:///guest?socket={_tools["nbd.sock"]}");

    private async Task<GuardedProcess> StartAsync(QemuVersion version)
    {
        Requirements.NeedProgram(TestFiles.Qemu(version));
        Requirements.NeedProgram(DiskTools.QemuImg);
        var disk = DiskSamples.RandomDisk(48 << 20, 21);
        disk[0] = 1;
        await File.WriteAllBytesAsync(_tools["before.raw"], disk);
        await File.WriteAllBytesAsync(_tools["disk.raw"], disk);
        Array.Fill(disk, (byte)9);
        await File.WriteAllBytesAsync(_tools["after.raw"], disk);
        using (var scratch = File.OpenHandle(_tools["scratch"], FileMode.Create, FileAccess.ReadWrite))
            Qcow2Writer.WriteEmpty(scratch, disk.Length, "scratch");
        return await GuardedProcess.StartAsync([
            TestFiles.Qemu(version),
            "-machine",
            "none",
            "-nodefaults",
            "-display",
            "none",
            "-qmp",
            $"unix:{_tools["qmp.sock"]},server=on,wait=off",
            "-blockdev",
            $"driver=raw,node-name=disk,file.driver=file,file.filename={_tools["disk.raw"]}",
            "-blockdev",
            $"driver=qcow2,node-name=scratch,discard=unmap,file.driver=file,file.discard=unmap,file.filename={_tools["scratch"]}",
        ]);
    }

    private QmpClient Fleece()
    {
        QmpClient? qmp = null;
        for (var deadline = Environment.TickCount64 + 60_000; qmp is null; Thread.Sleep(50))
        {
            try
            {
                qmp = QmpClient.Connect(_tools["qmp.sock"]);
            }
            catch (Exception e) when (e is QmpException or LinuxException && Environment.TickCount64 < deadline) { }
        }

        Do("blockdev-add", ("driver", "copy-before-write"), ("node-name", "cbw"), ("file", "disk"), ("target", "scratch"));
        Do("blockdev-add", ("driver", "snapshot-access"), ("node-name", "access"), ("file", "cbw"), ("discard", "unmap"));
        var path = new QmpJson.Raw(QmpJson.Object(("path", _tools["nbd.sock"])));
        Do("nbd-server-start", ("addr", new QmpJson.Raw(QmpJson.Object(("type", "unix"), ("data", path)))));
        Do("block-export-add", ("type", "nbd"), ("id", "export"), ("node-name", "access"), ("name", Export), ("writable", true));
        Do("block-export-add", ("type", "nbd"), ("id", "guest"), ("node-name", "cbw"), ("name", "guest"), ("writable", true));
        return qmp;

        void Do(string command, params (string Name, object Value)[] arguments) =>
            qmp.Execute(command, QmpJson.Object(arguments)).Dispose();
    }
}
