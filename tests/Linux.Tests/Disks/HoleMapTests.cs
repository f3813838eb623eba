using Bgsnap.Engine.Disks;
using Bgsnap.Engine.Disks.Nbd;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>The map of clusters that were zero at the cut, for a QEMU that cannot report its snapshot's holes.</summary>
public sealed class HoleMapTests : IAsyncLifetime, IAsyncDisposable
{
    private const string Bitmap = "since-the-cut";
    private const long Cluster = 65536,
        Clusters = 1024;
    private readonly DiskTools _tools = new();

    public Task InitializeAsync() => Task.CompletedTask;

    Task IAsyncLifetime.DisposeAsync() => DisposeAsync().AsTask();

    public ValueTask DisposeAsync() => _tools.DisposeAsync();

    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task What_was_written_or_zeroed_since_is_not_taken_for_a_hole(QemuVersion version)
    {
        Requirements.NeedProgram(TestFiles.Qemu(version));
        await DiskTools.RunAsync(DiskTools.QemuImg, "create", "-q", "-f", "qcow2", _tools["disk"], $"{Clusters * Cluster}");
        await DiskTools.RunAsync(
            "/usr/bin/qemu-io",
            "-f",
            "qcow2",
            "-c",
            "write -P 1 0 320k",
            "-c",
            "write -P 1 3210k 10k",
            _tools["disk"]
        );
        await using var qemu = await GuardedProcess.StartAsync([
            TestFiles.Qemu(version),
            "-machine",
            "none",
            "-nodefaults",
            "-display",
            "none",
            "-qmp",
            $"unix:{_tools["qmp.sock"]},server=on,wait=off",
            "-blockdev",
            $"driver=qcow2,node-name=disk,discard=unmap,file.driver=file,file.filename={_tools["disk"]}",
        ]);
        using var qmp = Serve();
        // Data that is discarded before the agent reads the map.
        await GuestAsync("write -z 64k 64k");
        var now = NbdClient.Negotiate(_tools.Connect(_tools["nbd.sock"], 1)[0], "image", default);

        var map = HoleMap.Read(now, () =>
        {
            // After the agent has read the map: a hole is written, and data are zeroed.
            GuestAsync("write -P 2 640k 4k", "write -z 192k 64k").GetAwaiter().GetResult();
            Do(qmp, "block-dirty-bitmap-disable", ("node", "disk"), ("name", Bitmap));
            Do(
                qmp,
                "block-export-add",
                ("type", "nbd"),
                ("id", "bitmap"),
                ("node-name", "disk"),
                ("name", "bitmap"),
                ("writable", false),
                ("bitmaps", new QmpJson.Raw($"[\"{Bitmap}\"]"))
            );
            return NbdClient.NegotiateBitmap(_tools.Connect(_tools["nbd.sock"], 1)[0], "bitmap", Bitmap, default);
        });

        List<long> data = [];
        List<NbdExtent> extent = [];
        for (long at = 0; at < Clusters * Cluster; at = extent[0].Offset + extent[0].Length)
        {
            map.Extent(at, extent);
            if (!extent[0].IsZero)
                data.AddRange(Enumerable.Range((int)(at / Cluster), (int)(extent[0].Length / Cluster)).Select(c => (long)c));
        }

        // Clusters 0 to 4 and 50 held data; cluster 10 was written.
        Assert.Equal([0, 1, 2, 3, 4, 10, 50], data);
    }

    private Task<string> GuestAsync(params string[] commands) =>
        DiskTools.RunAsync([
            "/usr/bin/qemu-io",
            "-f",
            "raw",
            .. commands.SelectMany(c => (string[])["-c", c]),
            $"nbd+unix:///guest?socket={_tools["nbd.sock"]}",
        ]);

    private QmpClient Serve()
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

        Do(qmp, "block-dirty-bitmap-add", ("node", "disk"), ("name", Bitmap), ("granularity", 65536));
        var path = new QmpJson.Raw(QmpJson.Object(("path", _tools["nbd.sock"])));
        Do(qmp, "nbd-server-start", ("addr", new QmpJson.Raw(QmpJson.Object(("type", "unix"), ("data", path)))));
        Do(qmp, "block-export-add", ("type", "nbd"), ("id", "guest"), ("node-name", "disk"), ("name", "guest"), ("writable", true));
        Do(qmp, "block-export-add", ("type", "nbd"), ("id", "image"), ("node-name", "disk"), ("name", "image"), ("writable", false));
        return qmp;
    }

    private static void Do(QmpClient qmp, string command, params (string Name, object Value)[] arguments) =>
        qmp.Execute(command, QmpJson.Object(arguments)).Dispose();
}
