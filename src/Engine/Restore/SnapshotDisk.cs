using Bgsnap.Engine.Disks;
using Bgsnap.SnapshotFormat.Qcow2;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Restore;

/// <summary>A disk whose content is in a snapshot.</summary>
internal sealed class SnapshotDisk(SnapshotDirectory snapshot, ManifestDisk disk)
{
    private readonly string _file = disk.File ?? throw new ArgumentException($"disk {disk.Name} has no file", nameof(disk));

    /// <summary>The disk's entry in the manifest.</summary>
    internal ManifestDisk Disk => disk;

    /// <summary>Bytes that <see cref="Check"/> reads.</summary>
    internal long FileBytes => snapshot.Manifest.Files.FirstOrDefault(f => f.Name == _file)?.Size ?? 0;

    /// <summary>Reads the whole file and compares its checksum, so that damaged data never overwrites a target.</summary>
    /// <param name="progress">Receives how many more bytes were read.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="SnapshotCorruptException">The file is not what was written.</exception>
    internal void Check(Action<long> progress, CancellationToken cancel)
    {
        using SafeFileHandle file = snapshot.OpenListed(_file, out ManifestFile listed, out string display);
        long told = 0;
        string checksum = SnapshotFiles.Checksum(file, listed.Size, display, done =>
        {
            cancel.ThrowIfCancellationRequested();
            progress(done - told);
            told = done;
        });
        if (checksum != listed.Checksum)
            throw new SnapshotCorruptException(display, 0, $"the file's checksum is {checksum}, the manifest says {listed.Checksum}");
        if (Open(file, listed, display).VirtualSize != disk.VirtualSize)
            throw new SnapshotCorruptException(
                display,
                0,
                $"the disk in it has another size than the manifest says, {disk.VirtualSize} bytes"
            );
    }

    /// <summary>Writes the disk into an image in place, durably.</summary>
    /// <param name="image">The image, open for reading and writing.</param>
    /// <param name="name">Its name for errors.</param>
    /// <param name="driver">Its format, raw or qcow2.</param>
    /// <param name="progress">Receives how many more bytes were written.</param>
    /// <param name="cancel">Ends it; the image then has neither its old nor its new content.</param>
    internal void Write(SafeFileHandle image, string name, string driver, Action<long> progress, CancellationToken cancel)
    {
        using SafeFileHandle file = snapshot.OpenListed(_file, out ManifestFile listed, out string display);
        DiskImageWriter.Write(Open(file, listed, display), image, name, driver, progress, cancel);
    }

    private static Qcow2Reader Open(SafeFileHandle file, ManifestFile listed, string display) =>
        Qcow2Reader.Open(file, listed.Size, display);
}
