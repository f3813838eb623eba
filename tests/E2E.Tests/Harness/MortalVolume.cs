using System.ComponentModel;
using System.Runtime.InteropServices;

namespace Bgsnap.E2E.Tests.Harness;

/// <summary>
/// A file system with the content of a claim's directory, mounted over it. It can fail, like one whose server or disk is lost, and be
/// mounted again.
/// </summary>
public sealed partial class MortalVolume : IAsyncDisposable
{
    // _IOR('X', 125, __u32) and EXT4_GOING_FLAGS_NOLOGFLUSH: fs/ext4/ext4.h.
    private const nuint ShutDown = 0x8004587D;
    private const uint NoLogFlush = 2;

    private readonly string _directory;
    private readonly string[] _images;

    private MortalVolume(string directory, string[] images) => (_directory, _images) = (directory, images);

    /// <summary>Creates and mounts it.</summary>
    /// <param name="directory">The claim's directory.</param>
    /// <param name="beside">The directory for its images.</param>
    public static async Task<MortalVolume> OverAsync(string directory, string beside)
    {
        // Two images: as long as a process holds the dead one, the kernel would mount that one again.
        var volume = new MortalVolume(directory, [Path.Join(beside, "first.img"), Path.Join(beside, "second.img")]);
        foreach (var image in volume._images)
        {
            (await Command.RunAsync("truncate", ["-s", "1G", image])).Ok();
            (await Command.RunAsync("mkfs.ext4", ["-q", "-F", "-O", "^has_journal", "-d", directory, image])).Ok();
        }

        await volume.MountAsync(volume._images[0]);
        return volume;
    }

    /// <summary>
    /// From now on every read fails for processes that have it open; the directory itself shows an intact file system again.
    /// </summary>
    public async Task DieAndComeBackAsync()
    {
        using (var root = File.OpenHandle(Path.Join(_directory, "lost+found", ".handle"), FileMode.Create, FileAccess.Write))
        {
            var flags = NoLogFlush;
            if (IoCtl((int)root.DangerousGetHandle(), ShutDown, ref flags) != 0)
                throw new Win32Exception(Marshal.GetLastPInvokeError());
        }

        (await Command.RunAsync("umount", ["-l", _directory])).Ok();
        await MountAsync(_images[1]);
    }

    public async ValueTask DisposeAsync()
    {
        await Command.RunAsync("umount", ["-l", _directory]);
        foreach (var image in _images)
            File.Delete(image);
    }

    private async Task MountAsync(string image) => (await Command.RunAsync("mount", ["-o", "loop", image, _directory])).Ok();

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    private static partial int IoCtl(int descriptor, nuint request, ref uint argument);
}
