using Bgsnap.NodeAgent.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Restore;

/// <summary>
/// QEMU's own lock of a writer on an image (block/file-posix.c), for as long as we write: no QEMU can be started with that image. One that
/// waits for a migration holds none, and takes its own when it has loaded the snapshot, so this must be given up before.
/// </summary>
internal sealed class ImageLock : IDisposable
{
    private readonly SafeFileHandle _file;

    private ImageLock(SafeFileHandle file) => _file = file;

    /// <summary>Takes it; on a file system without locks nobody holds any.</summary>
    internal static ImageLock Take(SafeFileHandle file)
    {
        ImageUse.Lock(file, locked: true);
        return new ImageLock(file);
    }

    /// <inheritdoc/>
    public void Dispose() => ImageUse.Lock(_file, locked: false);
}
