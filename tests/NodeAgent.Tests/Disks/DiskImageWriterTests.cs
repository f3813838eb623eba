using Bgsnap.Engine.Disks;
using Bgsnap.Linux;
using Bgsnap.NodeAgent.Tests.Store;
using Bgsnap.SnapshotFormat.Qcow2;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tests.Disks;

[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public sealed class DiskImageWriterTests : IDisposable
{
    private readonly TempDirectory _temp = new();
    private readonly byte[] _disk = DiskSamples.RandomDisk((12 << 20) + 1024, 8);

    private string Source => _temp.Sub("source.qcow2");

    private string Target => _temp.Sub("target");

    public DiskImageWriterTests() => DiskSamples.WriteQcow2(Source, _disk);

    public void Dispose() => _temp.Dispose();

    [Theory]
    [InlineData(0)]
    [InlineData(1 << 20)]
    [InlineData(40 << 20)]
    public void A_raw_file_of_any_length_becomes_the_disk_in_place(int before)
    {
        byte[] old = new byte[before];
        Array.Fill(old, (byte)0xcc);
        File.WriteAllBytes(Target, old);
        File.SetUnixFileMode(Target, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead);
        using SafeFileHandle open = File.OpenHandle(Target, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);

        Assert.Equal(DiskSamples.DataBytes(_disk), Write("raw"), 65536.0);

        Assert.Equal(_disk.Length, RandomAccess.GetLength(open));
        byte[] got = new byte[_disk.Length];
        Assert.Equal(got.Length, RandomAccess.Read(open, got, 0));
        Assert.True(_disk.AsSpan().SequenceEqual(got));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead, File.GetUnixFileMode(Target));
    }

    /// <summary>A restore may be killed at any moment, and the next one relies on the file's length.</summary>
    [Fact]
    public void A_raw_file_of_the_disks_length_is_never_shorter()
    {
        File.WriteAllBytes(Target, new byte[_disk.Length]);
        long shortest = long.MaxValue;
        using CancellationTokenSource enough = new();
        Thread watch = new(() =>
        {
            while (!enough.IsCancellationRequested)
                shortest = Math.Min(shortest, new FileInfo(Target).Length);
        });
        watch.Start();
        for (int i = 0; i < 100; i++)
            _ = Write("raw");
        enough.Cancel();
        watch.Join();

        Assert.Equal(_disk.Length, shortest);
    }

    [Fact]
    public void A_qcow2_file_becomes_the_disk_in_place()
    {
        DiskSamples.WriteQcow2(Target, DiskSamples.RandomDisk(30 << 20, 9));
        _ = Write("qcow2");
        Assert.True(_disk.AsSpan().SequenceEqual(DiskSamples.ReadQcow2(Target)));
        Assert.Equal(DiskSamples.DataBytes(_disk), DiskSamples.Check(Target));
        Assert.Equal(File.ReadAllBytes(Source), File.ReadAllBytes(Target));
    }

    [Fact]
    public void Other_formats_and_other_things_than_images_are_refused_untouched()
    {
        File.WriteAllText(Target, "precious");
        Assert.Throws<ArgumentException>(() => Write("vmdk"));
        Assert.Equal("precious", File.ReadAllText(Target));
        using SafeFileHandle source = File.OpenHandle(Source);
        using SafeFileHandle device = FileSyscalls.OpenAt(null, "/dev/null", FileSyscalls.O_WRONLY);
        Assert.Throws<ArgumentException>(() =>
            DiskImageWriter.Write(
                Qcow2Reader.Open(source, RandomAccess.GetLength(source), Source),
                device,
                "/dev/null",
                "raw",
                null,
                default
            )
        );
    }

    [Fact]
    public void It_can_be_cancelled()
    {
        using CancellationTokenSource cancel = new();
        Assert.ThrowsAny<OperationCanceledException>(() => Write("raw", _ => cancel.Cancel(), cancel.Token));
    }

    private long Write(string driver, Action<long>? progress = null, CancellationToken cancel = default)
    {
        using SafeFileHandle source = File.OpenHandle(Source);
        using SafeFileHandle target = File.OpenHandle(Target, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.ReadWrite);
        long written = 0;
        DiskImageWriter.Write(
            Qcow2Reader.Open(source, RandomAccess.GetLength(source), Source),
            target,
            Target,
            driver,
            bytes =>
            {
                written += bytes;
                progress?.Invoke(bytes);
            },
            cancel
        );
        return written;
    }
}
