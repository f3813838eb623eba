using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>The disks of a snapshot as a table.</summary>
internal static class DiskTable
{
    /// <summary>A header and one row for each disk, columns aligned.</summary>
    internal static IEnumerable<string> Lines(IReadOnlyList<ManifestDisk> disks)
    {
        string[][] rows =
        [
            ["Disk", "Size", "Data", "Stored", "Method", "Image", "Where"],
            .. disks.Select(d =>
                (string[])
                    [
                        d.Name,
                        Quantity.FormatSize(d.VirtualSize),
                        d.File is null ? "-" : Quantity.FormatSize(d.DataBytes),
                        d.File is null ? "-" : Quantity.FormatSize(d.StoredBytes),
                        d.Method,
                        d.Image is { } image ? $"{image.Driver} {image.Filename}" : "-",
                        Where(d),
                    ]
            ),
        ];
        int[] widths = [.. Enumerable.Range(0, rows[0].Length).Select(column => rows.Max(row => row[column].Length))];
        return rows.Select(row => string.Join("  ", row.Select((text, column) => text.PadRight(widths[column]))).TrimEnd());
    }

    /// <summary>Where the content of a disk is.</summary>
    internal static string Where(ManifestDisk disk) =>
        disk switch
        {
            { File: { } file, Decrypted: true } => $"{file}, stored decrypted",
            { File: { } file } => file,
            { VolumeSnapshot: { } volume } => $"VolumeSnapshot {volume}",
            { Note: { } note } => $"not copied: {note}",
            _ => "not copied",
        };
}
