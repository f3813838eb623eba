using Bgsnap.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Restore;

/// <summary>
/// Holds QEMU's own writer lock on an image (block/file-posix.c) while the agent writes it: no QEMU can start with that image. A QEMU that
/// waits for a migration holds no lock. It takes its own when it has loaded the snapshot, so the agent must release this one before.
/// </summary>
internal sealed class ImageLock : IDisposable
{
    private readonly SafeFileHandle _file;

    private ImageLock(SafeFileHandle file) => _file = file;

    /// <summary>Takes the lock; on a file system without locks nobody holds any.</summary>
    internal static ImageLock Take(SafeFileHandle file)
    {
        ImageUse.Lock(file, locked: true);
        return new ImageLock(file);
    }

    /// <inheritdoc/>
    public void Dispose() => ImageUse.Lock(_file, locked: false);
}
