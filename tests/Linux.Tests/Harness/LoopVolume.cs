using System.Globalization;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>A file system on a loop device. A test can unmount it under its readers, make it fail, and bring it back.</summary>
public sealed class LoopVolume : IAsyncDisposable
{
    private const int SectorSize = 512;
    private readonly string _image;
    private readonly string _link;
    private readonly string _device;
    private string[] _files = [];

    private LoopVolume(string image, string link, string device, string folder) =>
        (_image, _link, _device, Folder) = (image, link, device, folder);

    /// <summary>The mount point.</summary>
    public string Folder { get; }

    /// <summary>Major and minor number of its device, in the kernel's notation.</summary>
    public string Number => File.ReadAllText($"/sys/block/{Path.GetFileName(_device)}/dev").Trim();

    /// <summary>Bytes read from the device so far, by all processes.</summary>
    public long BytesRead =>
        SectorSize
        * long.Parse(
            File.ReadAllText($"/sys/block/{Path.GetFileName(_device)}/stat").Split(' ', StringSplitOptions.RemoveEmptyEntries)[2],
            CultureInfo.InvariantCulture
        );

    /// <summary>The mount point of the volume in a machine's folder.</summary>
    public static string MountPoint(string folder) => Path.Combine(folder, "volume");

    /// <summary>Creates a read-only volume in a machine's folder from a directory's files.</summary>
    public static async Task<LoopVolume> OfAsync(string content, string folder)
    {
        var image = Path.Combine(folder, "volume.img");
        var bytes = Directory.EnumerateFiles(content, "*").Sum(f => new FileInfo(f).Length);
        using (var file = File.OpenHandle(image, FileMode.CreateNew, FileAccess.Write))
            RandomAccess.SetLength(file, ((bytes * 5 / 4) + (16 << 20)) & ~4095L);
        await Tool.RunAsync("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=0", "-d", content, image)
            .ConfigureAwait(false);
        var device = (await Tool.RunAsync("losetup", "--find", "--show", "--read-only", image).ConfigureAwait(false)).Trim();
        LoopVolume volume = new(image, Path.Combine(folder, "volume.loop"), device, Directory.CreateDirectory(MountPoint(folder)).FullName);
        try
        {
            File.CreateSymbolicLink(volume._link, device); // so that the next test run finds it if this one is killed
            await volume.MountAsync().ConfigureAwait(false);
            // List the files now: once the device fails, its directories cannot be listed.
            volume._files = Directory.GetFiles(volume.Folder);
            return volume;
        }
        catch
        {
            await volume.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    public Task MountAsync() => Tool.RunAsync("mount", "-t", "ext4", "-o", "ro", _device, Folder);

    /// <summary>Does umount -l: processes that have files open keep them.</summary>
    public void UnmountLazily() => HarnessLibc.Unmount(Folder);

    /// <summary>Removes its files from the page cache.</summary>
    public void DropCache() => PageCache.Drop(_files);

    /// <summary>
    /// Shuts the file system down, as after a fatal error: every read of it fails until no process has it open and it is mounted again.
    /// </summary>
    public void Die() => HarnessLibc.ShutDownExt4(Folder);

    /// <summary>Mounts another directory over the mount point.</summary>
    public Task PutInItsPlaceAsync(string directory) => Tool.RunAsync("mount", "--bind", directory, Folder);

    /// <summary>Makes the device fail every read with EIO.</summary>
    public async Task FailAsync()
    {
        await Tool.RunAsync("cp", "--sparse=always", _image, _image + ".sound").ConfigureAwait(false);
        await using (var file = new FileStream(_image, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
            file.SetLength(0); // a loop device cannot read beyond its file's end
        DropCache();
    }

    /// <summary>Makes the device readable again.</summary>
    public async Task MendAsync()
    {
        await using FileStream sound = new(_image + ".sound", FileMode.Open, FileAccess.Read),
            file = new(_image, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        await sound.CopyToAsync(file).ConfigureAwait(false);
    }

    public async ValueTask DisposeAsync()
    {
        while (HarnessLibc.Unmount(Folder))
        {
            // A test that failed halfway may have left another mount on top.
        }

        await Tool.TryAsync("losetup", "--detach", _device).ConfigureAwait(false);
        File.Delete(_link);
    }
}
