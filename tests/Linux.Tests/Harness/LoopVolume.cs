using System.Globalization;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>A file system of its own on a loop device, which can be unmounted under whoever reads it, fail, and come back.</summary>
public sealed class LoopVolume : IAsyncDisposable
{
    private const int SectorSize = 512;
    private readonly string _image;
    private readonly string _link;
    private readonly string _device;
    private string[] _files = [];

    private LoopVolume(string image, string link, string device, string folder) =>
        (_image, _link, _device, Folder) = (image, link, device, folder);

    /// <summary>Where it is mounted.</summary>
    public string Folder { get; }

    /// <summary>Major and minor number of its device, as the kernel writes them.</summary>
    public string Number => File.ReadAllText($"/sys/block/{Path.GetFileName(_device)}/dev").Trim();

    /// <summary>What was read of the device so far, by whomever.</summary>
    public long BytesRead =>
        SectorSize
        * long.Parse(
            File.ReadAllText($"/sys/block/{Path.GetFileName(_device)}/stat").Split(' ', StringSplitOptions.RemoveEmptyEntries)[2],
            CultureInfo.InvariantCulture
        );

    /// <summary>Where the volume of a machine's folder is mounted.</summary>
    public static string MountPoint(string folder) => Path.Combine(folder, "volume");

    /// <summary>Makes one of a directory's files, read-only, in a machine's folder.</summary>
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
            File.CreateSymbolicLink(volume._link, device); // so that the next test run finds it, should this one be killed
            await volume.MountAsync().ConfigureAwait(false);
            // Named now: once the device fails, no directory of it can be listed.
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

    /// <summary>umount -l: who has files of it open keeps them.</summary>
    public void UnmountLazily() => Libc.Unmount(Folder);

    /// <summary>Takes its files out of the page cache.</summary>
    public void DropCache() => PageCache.Drop(_files);

    /// <summary>
    /// The file system is dead from now on, as after an error that it does not survive: every read of it fails for ever, until nobody holds
    /// it and it is mounted anew.
    /// </summary>
    public void Die() => Libc.ShutDownExt4(Folder);

    /// <summary>Mounts another directory over its place.</summary>
    public Task PutInItsPlaceAsync(string directory) => Tool.RunAsync("mount", "--bind", directory, Folder);

    /// <summary>From now on the device answers every read with EIO.</summary>
    public async Task FailAsync()
    {
        await Tool.RunAsync("cp", "--sparse=always", _image, _image + ".sound").ConfigureAwait(false);
        await using (var file = new FileStream(_image, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
            file.SetLength(0); // a loop device cannot read behind its file's end
        DropCache();
    }

    /// <summary>From now on it reads what it did before.</summary>
    public async Task MendAsync()
    {
        await using FileStream sound = new(_image + ".sound", FileMode.Open, FileAccess.Read),
            file = new(_image, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        await sound.CopyToAsync(file).ConfigureAwait(false);
    }

    public async ValueTask DisposeAsync()
    {
        while (Libc.Unmount(Folder))
        {
            // A test that failed in the middle has left another over it.
        }

        await Tool.TryAsync("losetup", "--detach", _device).ConfigureAwait(false);
        File.Delete(_link);
    }
}
