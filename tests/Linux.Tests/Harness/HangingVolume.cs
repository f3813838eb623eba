namespace Bgsnap.Linux.Tests.Harness;

/// <summary>An ext4 that the test can make hang: a process that writes to it then sleeps in the kernel, and no signal ends that.</summary>
public sealed class HangingVolume : IAsyncDisposable
{
    private bool _hangs;

    private HangingVolume(string folder) => Folder = folder;

    /// <summary>The mount point.</summary>
    public string Folder { get; }

    /// <summary>Creates a volume of this size.</summary>
    public static async Task<HangingVolume> CreateAsync(string folder, int mebibytes)
    {
        var image = Path.Combine(folder, "hanging.img");
        await using (var file = new FileStream(image, FileMode.CreateNew))
            file.SetLength((long)mebibytes << 20);
        await Tool.RunAsync("mkfs.ext4", "-q", "-F", "-O", "^has_journal", image).ConfigureAwait(false);
        HangingVolume volume = new(Directory.CreateDirectory(Path.Combine(folder, "hanging")).FullName);
        // The kernel removes the loop device with the mount.
        await Tool.RunAsync("mount", "-o", "loop", image, volume.Folder).ConfigureAwait(false);
        return volume;
    }

    public async Task HangAsync()
    {
        _hangs = true;
        await Tool.RunAsync("fsfreeze", "-f", Folder).ConfigureAwait(false);
    }

    public async Task GoOnAsync()
    {
        if (!_hangs)
            return;
        await Tool.RunAsync("fsfreeze", "-u", Folder).ConfigureAwait(false);
        _hangs = false;
    }

    public async ValueTask DisposeAsync()
    {
        await GoOnAsync().ConfigureAwait(false);
        HarnessLibc.Unmount(Folder);
    }
}
