using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>A machine whose guest writes files to an ext4 that the test created, on request with qemu-ga in the guest.</summary>
internal static class Ext4Machine
{
    private const int MiB = 48;

    public static async Task<VirtualMachine> StartAsync(
        QemuVersion version,
        string folder,
        DiskFormat format = DiskFormat.Raw,
        bool agent = false
    )
    {
        return await Requirements.StartAsync(Options(version, format, await MakeImageAsync(folder), agent));
    }

    /// <summary>Makes an image with an empty ext4.</summary>
    public static async Task<string> MakeImageAsync(string folder)
    {
        var image = Path.Combine(folder, "ext4");
        await File.WriteAllBytesAsync(image, []);
        using (var file = File.OpenHandle(image, FileMode.Open, FileAccess.Write))
            RandomAccess.SetLength(file, (long)MiB << 20);
        await Tool.RunAsync("mkfs.ext4", "-q", "-F", image);
        return image;
    }

    /// <summary>The machine, with a copy of this image as its disk.</summary>
    public static VirtualMachineOptions Options(QemuVersion version, DiskFormat format, string image, bool agent) =>
        DiskMachines.Writing(
            version,
            new TestDisk
            {
                Name = "vda",
                Format = format,
                MiB = MiB,
                CopyOf = image,
            }
        ) with
        {
            MemoryMiB = 112,
            GuestAgent = agent,
            Guest = new LinuxGuest
            {
                Mode = "ext4",
                Writers = 0,
                Agent = agent,
                TickMilliseconds = 100,
            },
        };

    /// <summary>
    /// What would be wrong with a captured disk if it were started without memory: fsck replays the journal, and each file must exist.
    /// </summary>
    public static async Task<IReadOnlyList<string>> JudgeAsync(string snapshot)
    {
        var disk = Assert.Single(SnapshotDisks.Of(snapshot), d => d.File is not null);
        var raw = await SnapshotDisks.ToRawAsync(snapshot, disk);
        return await FileScanner.JudgeAsync(SnapshotImage.FindDiskRecord(snapshot), raw, Path.GetDirectoryName(snapshot)!);
    }
}
