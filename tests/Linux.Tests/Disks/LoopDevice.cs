using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>A block device full of old bytes.</summary>
internal sealed class LoopDevice : IAsyncDisposable
{
    private LoopDevice(string path) => Path = path;

    public string Path { get; }

    public static async Task<LoopDevice> CreateAsync(string file, int mebibytes)
    {
        Skip.IfNot(File.Exists("/dev/loop-control"), "there are no loop devices");
        var old = new byte[mebibytes << 20];
        Array.Fill(old, (byte)0xcc);
        await File.WriteAllBytesAsync(file, old);
        (var code, var output) = await DiskTools.TryAsync("/sbin/losetup", "--find", "--show", file);
        Skip.If(code != 0, $"no loop device can be had here: {output}");
        return new LoopDevice(output.Trim());
    }

    public async ValueTask DisposeAsync() => await DiskTools.TryAsync("/sbin/losetup", "--detach", Path);
}
