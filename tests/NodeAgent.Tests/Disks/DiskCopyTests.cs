using System.Security.Cryptography;
using Bgsnap.Engine.Disks;
using Bgsnap.Engine.Disks.Nbd;
using Bgsnap.Linux;
using Bgsnap.NodeAgent.Tests.Store;
using Microsoft.Win32.SafeHandles;
using static Bgsnap.NodeAgent.Tests.Disks.FakeNbdServer;

namespace Bgsnap.NodeAgent.Tests.Disks;

public sealed class DiskCopyTests : IDisposable
{
    private readonly TempDirectory _temp = new();
    private readonly List<UnixSocket> _sockets = [];
    private FakeNbdServer? _server;

    private string Image => _temp.Sub("disk.qcow2");

    public void Dispose()
    {
        foreach (UnixSocket socket in _sockets)
            socket.Dispose();
        _server?.Dispose();
        _temp.Dispose();
    }

    [Theory]
    [InlineData(20 << 20, 1, true, 4096)]
    [InlineData(20 << 20, 4, true, 512)]
    [InlineData(20 << 20, 4, false, 4096)]
    [InlineData((9 << 20) + 1024, 3, true, 4096)]
    [InlineData((9 << 20) + 1, 3, true, 4096)] // no disk of QEMU's, but an export may be so
    [InlineData(0, 2, true, 4096)]
    public void A_copy_is_the_export(int size, int connections, bool tells, int granularity)
    {
        byte[] disk = DiskSamples.RandomDisk(size, size + connections);
        // A megabyte that the server reports as data, although it contains only written zeros.
        if (size > 0)
            disk[4096] = 1;
        long total = -1,
            copied = 0;
        bool read = false;
        DiskCopyResult result = Copy(
            new FakeNbdServer(_temp.Sub("s"), disk) { TellsAllocation = tells, Granularity = granularity },
            connections,
            new DiskCopyHooks
            {
                Total = bytes => total = bytes,
                Copied = bytes => copied += bytes,
                Read = () => read = true,
            }
        );
        byte[] expected = [.. disk, .. new byte[-size & 511]];
        Assert.True(expected.AsSpan().SequenceEqual(DiskSamples.ReadQcow2(Image)));
        Assert.Equal(expected.Length, result.VirtualSize);
        Assert.Equal(DiskSamples.DataBytes(disk), result.DataBytes);
        Assert.Equal(result.DataBytes, DiskSamples.Check(Image));
        Assert.Equal(new FileInfo(Image).Length, result.StoredBytes);
        Assert.Equal($"sha256:{Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(Image)))}", result.Checksum);
        Assert.True(read);
        Assert.Equal(copied, total);
        Assert.InRange(
            total,
            tells ? Math.Min(size, result.DataBytes - 65536) : size,
            tells ? Math.Min(size, result.DataBytes + 65536) : size
        );
        Assert.Equal(tells ? copied : size, _server!.Requests.Where(r => r.Type == Read).Sum(r => r.Length));
    }

    [Fact]
    public void What_was_read_or_is_zero_is_trimmed_afterwards_and_never_read_again()
    {
        byte[] disk = DiskSamples.RandomDisk(24 << 20, 5);
        _ = Copy(new FakeNbdServer(_temp.Sub("s"), disk), 3, new DiskCopyHooks { Trim = true });
        var trimmed = new bool[disk.Length / 65536];
        foreach (NbdRequest r in _server!.Requests.Where(r => r.Type != BlockStatus))
        {
            for (long at = r.Offset; at < r.Offset + r.Length; at += 65536)
            {
                Assert.False(trimmed[at / 65536], $"{r} after a trim");
                trimmed[at / 65536] = r.Type == Trim;
            }
            if (r.Type == Trim)
                Assert.Equal(0, (r.Offset | r.Length) % 65536);
        }
        Assert.DoesNotContain(false, trimmed);
    }

    [Fact]
    public void Without_the_wish_nothing_is_trimmed()
    {
        _ = Copy(new FakeNbdServer(_temp.Sub("s"), DiskSamples.RandomDisk(4 << 20, 5)), 2, new DiskCopyHooks());
        Assert.DoesNotContain(_server!.Requests, r => r.Type == Trim);
    }

    [Fact]
    public void A_writer_that_is_held_back_holds_the_readers_back()
    {
        byte[] disk = new byte[24 << 20];
        new Random(1).NextBytes(disk);
        long most = 0,
            copied = 0;
        _ = Copy(
            new FakeNbdServer(_temp.Sub("s"), disk),
            4,
            new DiskCopyHooks
            {
                Copied = bytes =>
                {
                    copied += bytes;
                    if (copied < 4 << 20)
                        Thread.Sleep(10);
                    most = Math.Max(most, _server!.Requests.Where(r => r.Type == Read).Sum(r => r.Length) - copied);
                },
            }
        );
        Assert.InRange(most, 1, 6 << 20);
    }

    [Fact]
    public void Every_failure_comes_out_and_no_thread_stays()
    {
        byte[] disk = new byte[16 << 20];
        new Random(1).NextBytes(disk);
        Assert.Equal(
            5,
            Fails<NbdException>(
                new FakeNbdServer(_temp.Sub("a"), disk)
                {
                    Answer = r => r.Type == Read && r.Offset > 8 << 20 ? Chunk(r.Cookie, 0x8001, [.. Be32(5), 0, 0]) : null,
                }
            ).Errno
        );
        Assert.Equal(Errno.EPIPE, Fails<NbdException>(new FakeNbdServer(_temp.Sub("b"), disk) { CutAfter = 3 << 20 }).Errno);
        Assert.Contains(
            "not answered",
            Fails<NbdException>(
                new FakeNbdServer(_temp.Sub("c"), disk) { Answer = r => r.Type == Read && r.Offset > 8 << 20 ? [] : null },
                silent: true
            ).Message,
            StringComparison.Ordinal
        );
        Assert.Contains(
            "not answered",
            Fails<NbdException>(
                new FakeNbdServer(_temp.Sub("d"), disk) { Answer = r => r.Type == BlockStatus ? [] : null },
                silent: true
            ).Message,
            StringComparison.Ordinal
        );
        Assert.Contains(
            "no such export",
            Fails<NbdException>(
                new FakeNbdServer(_temp.Sub("e"), disk) { Negotiate = (o, right) => o == 7 ? OptionReply(7, 0x80000006) : right }
            ).Message,
            StringComparison.Ordinal
        );
        Fails<DivideByZeroException>(
            new FakeNbdServer(_temp.Sub("f"), disk),
            new DiskCopyHooks { Copied = _ => throw new DivideByZeroException() }
        );
        using CancellationTokenSource cancel = new();
        Fails<OperationCanceledException>(
            new FakeNbdServer(_temp.Sub("g"), disk),
            new DiskCopyHooks { Copied = _ => cancel.Cancel() },
            cancel: cancel.Token
        );
        // A joined thread may still be on its way out of the kernel.
        Assert.True(
            SpinWait.SpinUntil(
                () => Directory.GetDirectories("/proc/self/task").All(task => ReadIfThere($"{task}/comm") != "disk read\n"),
                TimeSpan.FromSeconds(10)
            )
        );
    }

    private static string ReadIfThere(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (IOException)
        {
            return "";
        }
    }

    /// <param name="silent">
    /// True: the server falls silent and the client gives up after a second. False: the client must not give up, however busy the host is.
    /// </param>
    private T Fails<T>(FakeNbdServer server, DiskCopyHooks? hooks = null, bool silent = false, CancellationToken cancel = default)
        where T : Exception =>
        Assert.ThrowsAny<T>(() => Copy(server, 3, hooks ?? new DiskCopyHooks(), TimeSpan.FromSeconds(silent ? 1 : 60), cancel));

    private DiskCopyResult Copy(
        FakeNbdServer server,
        int connections,
        DiskCopyHooks hooks,
        TimeSpan? patience = null,
        CancellationToken cancel = default
    )
    {
        _server?.Dispose();
        _server = server;
        UnixSocket[] sockets = [.. Enumerable.Range(0, connections).Select(_ => UnixSocket.ConnectTo(server.Path))];
        _sockets.AddRange(sockets);
        // Write-only, as the snapshot's directory opens it.
        using SafeFileHandle file = FileSyscalls.OpenAt(null, Image, FileSyscalls.O_WRONLY | FileSyscalls.O_CREAT, 0x180);
        FileSyscalls.Truncate(file, 0, Image);
        return DiskCopy.Run(sockets, "agent-disk0", file, Image, hooks, cancel, patience);
    }
}
