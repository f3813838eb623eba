using System.Text.Json;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Restore;

/// <summary>The image behind a disk of a waiting QEMU, opened so that the agent can write it in place.</summary>
/// <param name="File">Open for reading and writing.</param>
/// <param name="Path">Its path, as QEMU reports it.</param>
/// <param name="Driver">Its format: raw or qcow2.</param>
internal sealed record TargetImage(SafeFileHandle File, string Path, string Driver) : IDisposable
{
    /// <summary>
    /// Opens the image of a disk. Its path comes from QEMU, which the agent does not trust: the agent follows the path in the root that
    /// QEMU sees, and what it finds there must be what QEMU itself has open.
    /// </summary>
    /// <param name="disk">The disk of the snapshot.</param>
    /// <param name="entry">The entry of query-block.</param>
    /// <param name="nodes">The nodes of that QEMU.</param>
    /// <param name="qemu">QEMU's process.</param>
    /// <exception cref="MismatchException">Why the image cannot take the disk.</exception>
    internal static TargetImage Open(ManifestDisk disk, QmpValue entry, TargetNodes nodes, ProcessEntry qemu)
    {
        if (!entry.TryGetProperty("inserted", out QmpValue inserted))
            throw new MismatchException("has no medium in the target");
        if (inserted.GetProperty("ro").GetBoolean())
            throw new MismatchException("is read-only in the target");
        inserted = nodes.ImageOf(inserted);
        if (inserted.GetProperty("ro").GetBoolean())
            throw new MismatchException("is read-only in the target");
        string driver = inserted.GetProperty("drv").GetString();
        // What the agent writes past QEMU would not be encrypted, and would destroy the header with the keys.
        if (driver == "luks" || inserted.GetProperty("encrypted").GetBoolean())
            throw new MismatchException(
                "is encrypted (LUKS) in the target, and a restore cannot encrypt: give QEMU an image that is not, or "
                    + "put the disks there yourself (export --disk, then qemu-img convert into the encrypted image) and restore "
                    + "with --disks none"
            );
        if (driver is "host_device" or "file")
            driver = "raw"; // -blockdev host_device,… as the disk itself
        if (driver is not ("raw" or "qcow2"))
            throw new MismatchException($"is a {driver} image in the target: only raw and qcow2 can be written");
        QmpValue image = inserted.GetProperty("image");
        if (inserted.GetProperty("backing_file_depth").GetInt32() > 0)
            throw new MismatchException("has a backing file in the target: give QEMU an image that stands alone");
        if (HasDataFile(image))
            throw new MismatchException("keeps its data in another file in the target: give QEMU an image that holds its own");
        string path = image.GetProperty("filename").GetString();
        using SafeFileHandle there = OpenPath(path, qemu);
        MustBeQemus(there, path, qemu);
        TargetImage opened = new(ForWriting(there, path, qemu), path, driver)
        {
            Loses = driver == "qcow2" ? LossOf(inserted, image) : null,
        };
        try
        {
            opened.MustFit(disk, image.GetProperty("virtual-size").GetInt64());
            return opened;
        }
        catch
        {
            opened.Dispose();
            throw;
        }
    }

    /// <summary>
    /// What goes with the old content of a qcow2 image, in words: bitmaps, which would be wrong now, and internal snapshots; null: nothing.
    /// </summary>
    internal string? Loses { get; private init; }

    private static string? LossOf(QmpValue inserted, QmpValue image)
    {
        List<string> bitmaps = [],
            snapshots = [],
            words = [];
        if (
            image.TryGetProperty("format-specific", out QmpValue specific)
            && specific.TryGetProperty("data", out QmpValue data)
            && data.TryGetProperty("bitmaps", out QmpValue stored)
            && stored.ValueKind == JsonValueKind.Array
        )
            Names(stored, bitmaps);
        if (inserted.TryGetProperty("dirty-bitmaps", out QmpValue loaded))
            Names(loaded, bitmaps);
        if (image.TryGetProperty("snapshots", out QmpValue taken))
            Names(taken, snapshots);
        if (bitmaps.Count > 0)
            words.Add($"the dirty bitmaps {string.Join(", ", bitmaps.Distinct())}: the next backup of it is a full one");
        if (snapshots.Count > 0)
            words.Add($"the internal snapshots {string.Join(", ", snapshots)}");
        return words.Count > 0 ? string.Join("; and ", words) : null;

        static void Names(QmpValue list, List<string> into) =>
            into.AddRange(
                list.EnumerateArray().Select(e => e.TryGetProperty("name", out QmpValue n) ? n.GetString() : null).OfType<string>()
            );
    }

    private static bool HasDataFile(QmpValue image) =>
        image.TryGetProperty("format-specific", out QmpValue specific)
        && specific.TryGetProperty("data", out QmpValue data)
        && data.ValueKind == JsonValueKind.Object
        && data.TryGetProperty("data-file", out _);

    private static SafeFileHandle OpenPath(string path, ProcessEntry qemu)
    {
        if (
            path.Length == 0
            || path.StartsWith("json:", StringComparison.Ordinal)
            || path.Contains("://", StringComparison.Ordinal)
            || path.StartsWith("/dev/fdset/", StringComparison.Ordinal)
        )
            throw new MismatchException($"is neither a file nor a block device with a path in the target, but '{path}'");
        try
        {
            using SafeFileHandle root = OpenInRoot.RootOf(qemu);
            string absolute = path[0] == '/' ? path : System.IO.Path.Join(new FileInfo(qemu.At("cwd")).LinkTarget ?? "/", path);
            return OpenInRoot.Open(root, absolute, directory: false);
        }
        catch (LinuxException e)
        {
            throw new MismatchException($"cannot be written: {e.Message}");
        }
    }

    private static void MustBeQemus(SafeFileHandle there, string path, ProcessEntry qemu)
    {
        FileSyscalls.FileStatus status = FileSyscalls.Status(there, path);
        if (!status.IsRegular && !status.IsBlockDevice)
            throw new MismatchException($"is neither a file nor a block device in the target ({path})");
        if (!ImageUse.IsOpenIn(qemu, status))
            throw new MismatchException($"is another file at {path} than the one that QEMU has open");
    }

    /// <summary>
    /// Opens with QEMU's own rights: QEMU may hold a file open for reading, and call it a disk, that it could never write.
    /// </summary>
    private static SafeFileHandle ForWriting(SafeFileHandle there, string path, ProcessEntry qemu)
    {
        try
        {
            return Credentials.Of(qemu).Run(() => OpenInRoot.ForWriting(there, path));
        }
        catch (Exception e) when (e is LinuxException or IOException)
        {
            throw new MismatchException($"cannot be written by its QEMU: {e.Message}");
        }
    }

    private void MustFit(ManifestDisk disk, long virtualSize)
    {
        FileSyscalls.FileStatus status = FileSyscalls.Status(File, Path);
        if (ImageUse.IsBeingWritten(File))
            throw new MismatchException($"is written by another process, a running QEMU by its lock ({Path})");
        long size = IsRaw && status.IsRegular ? (status.Size + 511) & ~511L : virtualSize;
        // A volume's size is a multiple of its storage's unit; a disk that ends before the volume does is harmless.
        bool fits = IsRaw && status.IsBlockDevice ? size >= disk.VirtualSize : size == disk.VirtualSize;
        if (!fits)
            throw new MismatchException($"has {size} bytes in the target ({Path}) instead of {disk.VirtualSize}");
    }

    private bool IsRaw => Driver == "raw";

    /// <inheritdoc/>
    public void Dispose() => File.Dispose();
}

/// <summary>Why a disk of the target cannot take one of the snapshot; the message continues a sentence that begins with the disk.</summary>
internal sealed class MismatchException(string message) : Exception(message);
