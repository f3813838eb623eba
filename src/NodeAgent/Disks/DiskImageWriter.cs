using Bgsnap.NodeAgent.Disks.Qcow2;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Disks;

/// <summary>Writes a disk of a snapshot into an image, in place.</summary>
internal static class DiskImageWriter
{
    /// <summary>Makes the target equal to the source and durable. A regular file is cut or extended to the disk's size and made
    /// sparse; a block device must be large enough, and is zeroed where the disk is zero. Owner, mode and inode stay, so a
    /// QEMU that waits with -incoming may have it open.</summary>
    /// <param name="source">The disk.</param>
    /// <param name="target">The image, open for reading and writing.</param>
    /// <param name="display">Its name for errors.</param>
    /// <param name="driver">Its format: <c>raw</c> or <c>qcow2</c>.</param>
    /// <param name="progress">Bytes of data written since the last call. It may sleep.</param>
    /// <param name="cancel">Ends it; the target is then neither what it was nor what it should be.</param>
    /// <exception cref="ArgumentException">Another driver.</exception>
    /// <exception cref="Store.SnapshotCorruptException">The source is damaged.</exception>
    /// <exception cref="Linux.LinuxException">The target cannot be written, ENOSPC if it is too small.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public static void Write(
        Qcow2Reader source, SafeFileHandle target, string display, string driver, Action<long>? progress, CancellationToken cancel) =>
        throw new NotImplementedException();
}
