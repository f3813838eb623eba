using System.Diagnostics;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore;

/// <summary>Disk images, created and compared by QEMU's own tool, which shares no code with the agent.</summary>
internal static class Disks
{
    public const long Size = 24 << 20;

    /// <summary>An image with content that differs for each seed: data, holes between it, and data in the last sector.</summary>
    public static string Raw(string folder, string name, int seed, long size = Size)
    {
        var path = Path.Combine(folder, name);
        var random = new Random(seed);
        var block = new byte[100_000];
        using var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write);
        RandomAccess.SetLength(file, size);
        for (long at = 0; at + block.Length < size; at += block.Length * random.Next(2, 9))
        {
            random.NextBytes(block);
            RandomAccess.Write(file, block, at);
        }

        random.NextBytes(block);
        RandomAccess.Write(file, block.AsSpan(0, 512), size - 512);
        return path;
    }

    /// <summary>An image in qcow2 form.</summary>
    public static string Qcow2(string folder, string name, string raw)
    {
        var path = Path.Combine(folder, name);
        Run("convert", "-f", "raw", "-O", "qcow2", raw, path);
        return path;
    }

    /// <summary>The content as a guest would read it, whatever the format.</summary>
    public static byte[] Content(string folder, string path, string format)
    {
        var raw = Path.Combine(folder, $"content-{Guid.NewGuid():n}");
        // -U, because a running machine has the image open.
        Run("convert", "-U", "-f", format, "-O", "raw", path, raw);
        var content = File.ReadAllBytes(raw);
        File.Delete(raw);
        return content;
    }

    public static void Run(params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo("qemu-img", arguments) { RedirectStandardError = true })!;
        var said = process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"qemu-img {string.Join(' ', arguments)}: {said}");
    }

    /// <summary>Arguments for a drive with its own id.</summary>
    public static string[] Drive(string id, string path, string format, string more = "") =>
        ["-drive", $"file={path},format={format},if=none,id={id}{more}", "-device", $"virtio-blk-pci,drive={id},id=device-{id}"];

    /// <summary>Arguments for a node without a drive, named by its device.</summary>
    public static string[] Node(string device, string path, string format) =>
        [
            "-blockdev",
            $"driver=file,filename={path},node-name=file-{device}",
            "-blockdev",
            $"driver={format},file=file-{device},node-name=format-{device}",
            "-device",
            $"virtio-blk-pci,drive=format-{device},id={device}",
        ];
}
