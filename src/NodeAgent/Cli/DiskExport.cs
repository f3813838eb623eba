using Bgsnap.Engine.Disks;
using Bgsnap.SnapshotFormat.Qcow2;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.SnapshotFormat.Streams;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Cli;

/// <summary><c>export --disk</c>: writes a disk of a snapshot to an image file.</summary>
internal static class DiskExport
{
    /// <summary>Checks the disk and writes it.</summary>
    /// <param name="dir">The snapshot.</param>
    /// <param name="name">The disk.</param>
    /// <param name="output">The image to create.</param>
    /// <param name="format">raw or qcow2.</param>
    /// <param name="progress">Receives both passes as one.</param>
    /// <param name="cancel">Ends it; nothing is left behind.</param>
    /// <exception cref="ArgumentException">No such disk exists, or its content is not in the snapshot.</exception>
    /// <exception cref="SnapshotCorruptException">The disk is damaged. Nothing was written.</exception>
    internal static void Run(string dir, string name, string output, string format, Action<RamProgress> progress, CancellationToken cancel)
    {
        if (output == "-")
            throw new ArgumentException(
                "a disk cannot be written to standard output, because an image is not written in order: name a file"
            );
        using SnapshotDirectory snapshot = SnapshotDirectory.Open(SnapshotCommands.Existing(dir));
        ManifestDisk disk = Find(snapshot, name);
        using SafeFileHandle file = snapshot.OpenListed(disk.File!, out ManifestFile listed, out string display);
        long total = listed.Size + disk.DataBytes,
            done = 0;
        // Read all of it first, so that no part of a damaged disk is written.
        string checksum = SnapshotFiles.Checksum(file, listed.Size, display, read => Report(read - done));
        if (checksum != listed.Checksum)
            throw new SnapshotCorruptException(display, 0, $"the file's checksum is {checksum}, the manifest says {listed.Checksum}");
        Qcow2Reader reader = Qcow2Reader.Open(file, listed.Size, display);
        PartialFile.Write(output, image => DiskImageWriter.Write(reader, image, output, format, Report, cancel));

        void Report(long bytes)
        {
            cancel.ThrowIfCancellationRequested();
            done += bytes;
            progress(new RamProgress((ulong)done, (ulong)total));
        }
    }

    private static ManifestDisk Find(SnapshotDirectory snapshot, string name)
    {
        IReadOnlyList<ManifestDisk> disks = snapshot.Manifest.Disks;
        ManifestDisk disk = disks.FirstOrDefault(d => d.Name == name)
            ?? throw new ArgumentException(
                $"{snapshot.Path} has no disk {name}: "
                    + $"{(disks.Count > 0 ? $"it has {string.Join(", ", disks.Select(d => d.Name))}" : "it was taken without disks")}"
            );
        return disk.File is not null
            ? disk
            : throw new ArgumentException($"the content of disk {name} is not in {snapshot.Path}: {DiskTable.Where(disk)}");
    }
}
