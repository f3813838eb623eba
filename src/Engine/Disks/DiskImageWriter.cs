using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Qcow2;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Disks;

/// <summary>Writes a disk of a snapshot into an image, in place.</summary>
internal static unsafe class DiskImageWriter
{
    private const int BufferSize = 1 << 20;

    // Zeroing a large device is split into calls of this many bytes, so that it can be cancelled.
    private const long ZeroStep = 1L << 30;

    /// <summary>
    /// Makes the target equal to the source and durable. A regular file is cut or extended to the disk's size and made sparse. A block
    /// device must be large enough; it is zeroed where the disk is zero and behind the disk's end. Owner, mode and inode stay, so a QEMU
    /// that waits with -incoming may have the target open.
    /// </summary>
    /// <param name="source">The disk.</param>
    /// <param name="target">The image, open for writing.</param>
    /// <param name="display">Its name in errors.</param>
    /// <param name="driver">Its format: <c>raw</c> or <c>qcow2</c>. A qcow2 image becomes standalone, without a backing file.</param>
    /// <param name="progress">Bytes of data written since the last call. It may sleep.</param>
    /// <param name="cancel">Ends the write; the target then has neither its old nor its new content.</param>
    /// <exception cref="ArgumentException">Another driver, or a target that is neither a regular file nor a block device.</exception>
    /// <exception cref="SnapshotCorruptException">The source is damaged.</exception>
    /// <exception cref="LinuxException">The target cannot be written, ENOSPC if it is too small.</exception>
    /// <exception cref="OperationCanceledException">The write was cancelled.</exception>
    public static void Write(
        Qcow2Reader source,
        SafeFileHandle target,
        string display,
        string driver,
        Action<long>? progress,
        CancellationToken cancel
    )
    {
        FileSyscalls.FileStatus status = FileSyscalls.Status(target, display);
        if (!status.IsRegular && !status.IsBlockDevice)
            throw new ArgumentException($"{display} is neither a regular file nor a block device", nameof(target));
        if (driver is not ("raw" or "qcow2"))
            throw new ArgumentException($"images of format {driver} cannot be written, only raw and qcow2", nameof(driver));
        switch (driver)
        {
            case "raw" when status.IsRegular:
                Empty(target, source.VirtualSize, display);
                WriteRaw(source, target, display, zeroFrom: long.MaxValue, progress, cancel);
                break;
            case "raw":
                long size = BlockDevice.Size(target, display);
                if (size < source.VirtualSize)
                    throw new LinuxException($"{display}: the device has {size} bytes, the disk needs {source.VirtualSize}", Errno.ENOSPC);
                WriteRaw(source, target, display, zeroFrom: size, progress, cancel);
                break;
            default:
                // Drop the old content at once, and with it the space that the new content may need.
                if (status.IsRegular)
                    FileSyscalls.Truncate(target, 0, display);
                WriteQcow2(source, target, display, progress, cancel);
                break;
        }
        FileSyscalls.Sync(target, display);
    }

    /// <summary>
    /// Turns a file into one hole of the given length, at once, so that its space is free for the new content. The file is never shorter
    /// meanwhile: if we were killed then, the next restore would take it for the image of another disk.
    /// </summary>
    private static void Empty(SafeFileHandle file, long length, string display)
    {
        FileSyscalls.Truncate(file, length, display);
        if (length == 0 || BlockDevice.TryZero(file, 0, length))
            return;
        // The file system does not support holes.
        FileSyscalls.Truncate(file, 0, display);
        FileSyscalls.Truncate(file, length, display);
    }

    // zeroFrom is the length of a device, which may contain anything; a new file is already zero.
    private static void WriteRaw(
        Qcow2Reader source,
        SafeFileHandle target,
        string display,
        long zeroFrom,
        Action<long>? progress,
        CancellationToken cancel
    )
    {
        byte* buffer = NativeMemoryMap.Allocate(BufferSize);
        try
        {
            foreach (DiskExtent extent in source.Extents())
            {
                if (!extent.IsData)
                {
                    if (zeroFrom != long.MaxValue)
                        Zero(extent.Offset, extent.Length);
                    continue;
                }
                for (long at = extent.Offset, end = at + extent.Length; at < end; at += BufferSize)
                {
                    cancel.ThrowIfCancellationRequested();
                    int length = (int)Math.Min(BufferSize, end - at);
                    source.Read(at, new Span<byte>(buffer, length));
                    FileSyscalls.WriteAll(target, buffer, (nuint)length, at, display);
                    progress?.Invoke(length);
                }
            }
            if (zeroFrom != long.MaxValue)
                Zero(source.VirtualSize, zeroFrom - source.VirtualSize);
        }
        finally
        {
            NativeMemoryMap.Free(buffer, BufferSize);
        }

        void Zero(long offset, long length)
        {
            bool quick = true;
            for (long step; length > 0; offset += step, length -= step)
            {
                cancel.ThrowIfCancellationRequested();
                step = Math.Min(quick ? ZeroStep : BufferSize, length);
                if (quick && BlockDevice.TryZero(target, offset, step))
                    continue;
                quick = false;
                step = Math.Min(BufferSize, length);
                new Span<byte>(buffer, (int)step).Clear();
                FileSyscalls.WriteAll(target, buffer, (nuint)step, offset, display);
            }
        }
    }

    private static void WriteQcow2(
        Qcow2Reader source,
        SafeFileHandle target,
        string display,
        Action<long>? progress,
        CancellationToken cancel
    )
    {
        using Qcow2Writer writer = new(target, display, source.VirtualSize);
        byte* buffer = NativeMemoryMap.Allocate(BufferSize);
        try
        {
            long done = 0;
            foreach (DiskExtent extent in source.Extents())
            {
                if (!extent.IsData)
                    continue;
                // Write whole clusters of the target: a source with smaller clusters may begin in the middle, and its neighbours share one.
                long end = Math.Min(
                    (extent.Offset + extent.Length + Qcow2Format.ClusterSize - 1) & ~(Qcow2Format.ClusterSize - 1L),
                    source.VirtualSize
                );
                for (long at = Math.Max(done, extent.Offset & ~(Qcow2Format.ClusterSize - 1L)); at < end; at += BufferSize)
                {
                    cancel.ThrowIfCancellationRequested();
                    int length = (int)Math.Min(BufferSize, end - at);
                    source.Read(at, new Span<byte>(buffer, length));
                    writer.Write(at, buffer, length);
                    progress?.Invoke(length);
                    done = at + length;
                }
            }
            _ = writer.Finish();
        }
        finally
        {
            NativeMemoryMap.Free(buffer, BufferSize);
        }
    }
}
