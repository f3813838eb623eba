using System.Globalization;
using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>The manifest's records of the machine's disks.</summary>
/// <param name="Disks">Every disk, copied or not.</param>
/// <param name="Files">Their files, already hashed.</param>
/// <param name="Method">How they were cut; null if no disk was cut.</param>
internal sealed record DiskRecords(IReadOnlyList<ManifestDisk> Disks, IReadOnlyList<ManifestFile> Files, string? Method)
{
    /// <summary>A record for every disk, copied or not.</summary>
    internal static IReadOnlyList<ManifestDisk> Of(
        IReadOnlyList<(VmDisk Disk, string? NotCopied)> disks,
        IReadOnlyList<CapturedDisk> copied,
        IReadOnlyDictionary<int, DiskCopyResult> results,
        string? method,
        IReadOnlyDictionary<string, string>? volumeSnapshots,
        ProcessEntry qemu
    )
    {
        List<ManifestDisk> records = [];
        foreach ((VmDisk disk, string? notCopied) in disks)
        {
            ManifestDisk record = new()
            {
                Name = disk.Name,
                VirtualSize = disk.VirtualSize,
                ReadOnly = disk.IsReadOnly,
                Removable = disk.IsRemovable,
                Device = disk.Device,
                NodeName = disk.NodeName,
                Image = ImageOf(disk, qemu),
                Note = notCopied,
            };
            if (copied.FirstOrDefault(c => c.Disk == disk) is { } c)
            {
                DiskCopyResult result = results[c.Number];
                record = record with
                {
                    File = ManifestDisk.FileOf(disk.Name),
                    Format = DiskFormats.Qcow2,
                    DataBytes = result.DataBytes,
                    StoredBytes = result.StoredBytes,
                    Method = method!,
                    Decrypted = disk.IsEncrypted,
                };
            }
            else if (notCopied is null && volumeSnapshots is not null)
            {
                string? name = volumeSnapshots.GetValueOrDefault(disk.Name);
                record = record with
                {
                    Method = name is null ? DiskMethods.None : DiskMethods.VolumeSnapshot,
                    VolumeSnapshot = name,
                    Note = name is null ? "it has no VolumeSnapshot" : null,
                };
            }
            records.Add(record);
        }
        return records;
    }

    /// <summary>The files that were hashed while they were written.</summary>
    internal static IReadOnlyList<ManifestFile> FilesOf(
        IReadOnlyList<CapturedDisk> copied,
        IReadOnlyDictionary<int, DiskCopyResult> results
    ) =>
        [
            .. copied.Select(c => new ManifestFile(
                ManifestDisk.FileOf(c.Disk.Name),
                results[c.Number].StoredBytes,
                results[c.Number].Checksum
            )),
        ];

    /// <summary>The image as QEMU sees it, with its owner, so that a restore can create one that QEMU may open.</summary>
    private static ManifestImage? ImageOf(VmDisk disk, ProcessEntry qemu)
    {
        if (
            disk.Filename.Length == 0
            || disk.Filename.StartsWith("json:", StringComparison.Ordinal)
            || disk.Filename.Contains("://", StringComparison.Ordinal)
        )
            return null;
        // A protocol node without a format node is a raw image.
        ManifestImage image = new() { Driver = disk.Driver is "file" or "host_device" ? "raw" : disk.Driver, Filename = disk.Filename };
        try
        {
            string path = disk.Filename[0] == '/' ? disk.Filename : Path.Join(new FileInfo(qemu.At("cwd")).LinkTarget, disk.Filename);
            using SafeFileHandle root = OpenInRoot.RootOf(qemu);
            using SafeFileHandle file = OpenInRoot.Open(root, path, directory: false);
            FileSyscalls.FileStatus status = FileSyscalls.Status(file, path);
            return image with
            {
                Filename = path,
                Uid = status.Uid,
                Gid = status.Gid,
                Mode = "0" + Convert.ToString(status.Mode & 0xfff, 8),
            };
        }
        catch (Exception e) when (e is LinuxException or IOException or UnauthorizedAccessException)
        {
            // Passed to QEMU as a descriptor, or not accessible to us.
            return image;
        }
    }
}
