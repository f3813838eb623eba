using System.Globalization;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>The images of a machine's disks; disposing detaches the loop devices.</summary>
internal sealed class TestDisks : IDisposable
{
    private readonly List<string> _loops = [];

    /// <summary>The path that QEMU opens: a file or a block device.</summary>
    public static string PathOf(TestDisk disk, string folder) => disk.IsBlockDevice ? LoopLink(disk, folder) : ImageOf(disk, folder);

    /// <summary>The image file itself.</summary>
    public static string ImageOf(TestDisk disk, string folder) => Path.Combine(folder, $"{disk.Name}.{Driver(disk)}");

    public static string Driver(TestDisk disk) => disk.Format == DiskFormat.Qcow2 ? "qcow2" : "raw";

    /// <summary>Creates the images.</summary>
    public static async Task<TestDisks> CreateAsync(VirtualMachineOptions options, string folder)
    {
        TestDisks disks = new();
        try
        {
            foreach (var disk in options.Disks)
            {
                var image = ImageOf(disk, folder);
                if ((disk.CopyOf ?? (disk.IsFull ? Fill(disk, folder) : null)) is { } source)
                    await Tool.RunAsync("qemu-img", "convert", "-O", Driver(disk), source, image).ConfigureAwait(false);
                else
                    await Tool.RunAsync(
                            "qemu-img",
                            "create",
                            "-q",
                            "-f",
                            Driver(disk),
                            image,
                            $"{disk.MiB.ToString(CultureInfo.InvariantCulture)}M"
                        )
                        .ConfigureAwait(false);
                if (disk.IsBlockDevice)
                    await disks.AttachAsync(disk, folder).ConfigureAwait(false);
                if (options.Uid is { } uid)
                    await Tool.RunAsync("chown", uid.ToString(CultureInfo.InvariantCulture), PathOf(disk, folder)).ConfigureAwait(false);
            }
            return disks;
        }
        catch
        {
            disks.Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        foreach (var loop in _loops)
            Tool.RunAsync("losetup", "--detach", loop).GetAwaiter().GetResult();
        _loops.Clear();
    }

    /// <summary>Detaches the loop devices of a killed test run.</summary>
    public static void DetachLost(string folder)
    {
        foreach (var link in Directory.EnumerateFiles(folder, "*.loop"))
        {
            if (
                File.ResolveLinkTarget(link, false)?.FullName is { } loop
                && BackingFile(loop)?.StartsWith(folder, StringComparison.Ordinal) == true
            )
            {
                Tool.RunAsync("losetup", "--detach", loop).GetAwaiter().GetResult();
            }
        }
    }

    private static string Fill(TestDisk disk, string folder)
    {
        var file = Path.Combine(folder, "random");
        var data = new byte[disk.MiB << 20];
        new Random(disk.MiB).NextBytes(data);
        File.WriteAllBytes(file, data);
        return file;
    }

    // The link exists as long as the machine, so that the next test run finds the devices of a killed one.
    private async Task AttachAsync(TestDisk disk, string folder)
    {
        // A device does not grow: it needs room for everything that the format adds to the content.
        using (var file = File.OpenHandle(ImageOf(disk, folder), FileMode.Open, FileAccess.Write))
            RandomAccess.SetLength(
                file,
                Math.Max(RandomAccess.GetLength(file), (long)(disk.Format == DiskFormat.Raw ? disk.MiB : disk.MiB + 16) << 20)
            );
        var loop = (await Tool.RunAsync("losetup", "--find", "--show", ImageOf(disk, folder)).ConfigureAwait(false)).Trim();
        _loops.Add(loop);
        File.CreateSymbolicLink(LoopLink(disk, folder), loop);
    }

    private static string LoopLink(TestDisk disk, string folder) => Path.Combine(folder, $"{disk.Name}.loop");

    private static string? BackingFile(string loop)
    {
        var file = $"/sys/block/{Path.GetFileName(loop)}/loop/backing_file";
        return File.Exists(file) ? File.ReadAllText(file).Trim() : null;
    }
}
