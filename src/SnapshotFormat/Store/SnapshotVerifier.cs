using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Qcow2;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>Reads every byte of a snapshot, checks every checksum and structure, and decodes every granule.</summary>
public static class SnapshotVerifier
{
    /// <summary>Verifies a snapshot. Problems of the files' content are listed in the report, not thrown.</summary>
    /// <param name="dir">The snapshot's directory.</param>
    /// <param name="progress">Receives progress now and then.</param>
    public static VerifyReport Verify(string dir, IProgress<VerifyProgress>? progress = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(dir);
        var report = new VerifyReport();
        Guard(report, "", () =>
        {
            using SafeFileHandle directory = SnapshotFiles.OpenDirectory(null, dir);
            Guard(report, FormatV1.ManifestFileName, () => ReadManifest(directory, report));
            Guard(report, "", () => CheckNames(directory, report));
            // Without a manifest the page log can still be verified; the other files have nothing to be compared with.
            Guard(report, FormatV1.MemoryFileName, () => PageLogVerifier.Verify(directory, report, progress));
            foreach (ManifestFile file in report.Manifest?.Files ?? [])
            {
                if (file.Name != FormatV1.MemoryFileName)
                    Guard(report, file.Name, () => CheckFile(directory, file, report, progress));
            }
        });
        return report;
    }

    /// <summary>Runs a step; an exception for bad content becomes a problem of <paramref name="file"/>.</summary>
    internal static void Guard(VerifyReport report, string file, Action step)
    {
        try
        {
            step();
        }
        catch (SnapshotCorruptException e)
        {
            report.Add(file, e.Offset, e.Problem);
        }
        catch (Exception e) when (e is LinuxException or IOException or UnauthorizedAccessException)
        {
            report.Add(file, 0, e.Message);
        }
    }

    private static void ReadManifest(SafeFileHandle directory, VerifyReport report)
    {
        const string Name = FormatV1.ManifestFileName;
        byte[] bytes = SnapshotFiles.ReadSmall(directory, Name, Name, FormatV1.MaxManifestSize);
        report.BytesRead += bytes.Length;
        report.Manifest = ManifestJson.Read(bytes, Name);
        foreach (string needed in (ReadOnlySpan<string>)[FormatV1.MemoryFileName, FormatV1.DeviceStateFileName])
            if (report.Manifest.Files.All(f => f.Name != needed))
                report.Add(Name, 0, $"{needed} is not listed");
    }

    // A file that no checksum covers is not part of the snapshot, and no command reads it: file managers and backups leave such files
    // (.DS_Store). The report names it, so that it does not pass for a part. The exception is the hint that a restore leaves, which is not
    // taken for data.
    private static void CheckNames(SafeFileHandle directory, VerifyReport report)
    {
        if (report.Manifest is null)
            return;
        var listed = report
            .Manifest.Files.Select(f => f.Name)
            .Append(FormatV1.ManifestFileName)
            .Append(FormatV1.StartOrderFileName)
            .Append(FormatV1.StartOrderPartialName)
            .ToHashSet(StringComparer.Ordinal);
        List<string> files = SnapshotFiles.List(directory, odd => report.Add(odd, 0, "neither a file nor a folder of files"));
        // NFS keeps removed files that are still open under such names.
        foreach (string file in files.Where(f => !listed.Contains(f) && !Path.GetFileName(f).StartsWith(".nfs", StringComparison.Ordinal)))
            report.AddForeign(file);
    }

    private static void CheckFile(SafeFileHandle directory, ManifestFile file, VerifyReport report, IProgress<VerifyProgress>? progress)
    {
        using SafeFileHandle handle = SnapshotFiles.OpenRead(directory, file.Name, file.Name, out long size);
        if (size != file.Size)
        {
            report.Add(file.Name, Math.Min(size, file.Size), $"the file has {size} bytes, the manifest says {file.Size}");
            return;
        }
        if (file.Name == FormatV1.DeviceStateFileName && size > FormatV1.MaxDeviceStateSize)
            report.Add(file.Name, FormatV1.MaxDeviceStateSize, "the device state is too long");
        string checksum = SnapshotFiles.Checksum(handle, size, file.Name, done =>
            progress?.Report(new VerifyProgress(file.Name, done, size))
        );
        report.BytesRead += size;
        if (checksum != file.Checksum)
            report.Add(file.Name, 0, $"the file's checksum is {checksum}, the manifest says {file.Checksum}");
        if (report.Manifest!.Disks.FirstOrDefault(d => d.File == file.Name) is { } disk)
            CheckDisk(handle, disk, file, report);
    }

    private static void CheckDisk(SafeFileHandle handle, ManifestDisk disk, ManifestFile file, VerifyReport report)
    {
        Qcow2Reader reader = Qcow2Reader.Open(handle, file.Size, file.Name);
        if (reader.VirtualSize != disk.VirtualSize)
            report.Add(file.Name, 24, $"the disk has {reader.VirtualSize} bytes, the manifest says {disk.VirtualSize}");
        long data = Qcow2Check.Run(reader);
        if (data != disk.DataBytes)
            report.Add(file.Name, 0, $"the disk holds {data} bytes of data, the manifest says {disk.DataBytes}");
        report.GoodDisks++;
    }
}
