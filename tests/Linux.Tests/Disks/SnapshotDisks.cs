using System.Text.Json;
using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>A disk as the manifest describes it, by the documented names instead of the agent's types.</summary>
internal sealed record SnapshotDisk(
    string Name,
    string? File,
    string? Format,
    long VirtualSize,
    long DataBytes,
    long StoredBytes,
    string Method,
    string? Note,
    bool ReadOnly,
    bool Removable,
    string? Device,
    string NodeName
);

/// <summary>The disks of a finished snapshot, read by qemu-img, which knows nothing of bgsnap.</summary>
internal static class SnapshotDisks
{
    public static IReadOnlyList<SnapshotDisk> Of(string snapshot)
    {
        using var manifest = JsonDocument.Parse(File.ReadAllText(Path.Combine(snapshot, "snapshot.json")));
        return manifest.RootElement.GetProperty("disks").Deserialize<List<SnapshotDisk>>(JsonSerializerOptions.Web)!;
    }

    /// <summary>Makes a raw image of a captured disk, beside the snapshot.</summary>
    public static async Task<string> ToRawAsync(string snapshot, SnapshotDisk disk)
    {
        Assert.True(disk.File is not null, $"{disk}");
        var qcow2 = Path.Combine(snapshot, disk.File);
        var raw = $"{snapshot}.{disk.Name}.raw";
        await Tool.RunAsync("qemu-img", "check", "-q", "-f", "qcow2", qcow2);
        await Tool.RunAsync("qemu-img", "convert", "-f", "qcow2", "-O", "raw", qcow2, raw);
        Assert.Equal(disk.VirtualSize, new FileInfo(raw).Length);
        return raw;
    }

    /// <summary>Copies a snapshot out of its machine's folder, which is removed with the machine.</summary>
    public static void CopyTo(string snapshot, string to)
    {
        foreach (var file in Directory.EnumerateFiles(snapshot, "*", SearchOption.AllDirectories))
        {
            var copy = Path.Combine(to, Path.GetRelativePath(snapshot, file));
            Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
            File.Copy(file, copy);
        }
    }

    /// <summary>
    /// Judges whether RAM and disks of a snapshot are of one instant. The guest runs in mode disk, and its disks are in the order of the
    /// guest's names for them.
    /// </summary>
    public static async Task<DiskVerdict> JudgeAsync(string snapshot)
    {
        List<string> images = [];
        foreach (var disk in Of(snapshot).Where(d => d.File is not null))
            images.Add(await ToRawAsync(snapshot, disk));
        var verdict = DiskScanner.Judge(SnapshotImage.FindDiskRecord(snapshot), images);
        images.ForEach(File.Delete);
        return verdict;
    }
}
