using System.ComponentModel;
using System.Runtime.InteropServices;

namespace Bgsnap.E2E.Tests.Harness;

/// <summary>
/// A file system with what a claim's directory holds, mounted over it: it can die, as one does whose server or disk is lost, and be mounted
/// anew.
/// </summary>
public sealed partial class MortalVolume : IAsyncDisposable
{
    // _IOR('X', 125, __u32) and EXT4_GOING_FLAGS_NOLOGFLUSH: fs/ext4/ext4.h.
    private const nuint ShutDown = 0x8004587D;
    private const uint NoLogFlush = 2;

    private readonly string _directory;
    private readonly string[] _images;

    private MortalVolume(string directory, string[] images) => (_directory, _images) = (directory, images);

    /// <summary>Makes it and mounts it.</summary>
    /// <param name="directory">The claim's directory.</param>
    /// <param name="beside">Where its images are kept.</param>
    public static async Task<MortalVolume> OverAsync(string directory, string beside)
    {
        // Two: as long as anybody holds the dead one, the kernel would mount that again.
        var volume = new MortalVolume(directory, [Path.Join(beside, "first.img"), Path.Join(beside, "second.img")]);
        foreach (var image in volume._images)
        {
            (await Command.RunAsync("truncate", ["-s", "1G", image])).Ok();
            (await Command.RunAsync("mkfs.ext4", ["-q", "-F", "-O", "^has_journal", "-d", directory, image])).Ok();
        }

        await volume.MountAsync(volume._images[0]);
        return volume;
    }

    /// <summary>Every read of it fails from now on for whoever has it; another look at the directory finds it well.</summary>
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
