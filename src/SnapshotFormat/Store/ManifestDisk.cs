namespace Bgsnap.SnapshotFormat.Store;

/// <summary>One disk of the machine, whether its content is in the snapshot or not.</summary>
public sealed record ManifestDisk
{
    /// <summary>Longest <see cref="Name"/>, in characters: with folder and suffix it is a valid file name everywhere.</summary>
    public const int MaxNameLength = 200;

    /// <summary>The disk's name: QEMU's drive id, else its qdev id, else its node name; no two disks
    /// share one.</summary>
    public required string Name { get; init; }

    /// <summary>
    /// Its file in the snapshot, such as <c>disks/vda.qcow2</c>; null if the disk is only recorded, see <see cref="Note"/>.
    /// </summary>
    public string? File { get; init; }

    /// <summary>Format of that file, <c>qcow2</c>; null without a file.</summary>
    public string? Format { get; init; }

    /// <summary>Bytes that the guest sees.</summary>
    public long VirtualSize { get; init; }

    /// <summary>Bytes of the clusters in the file that hold anything but zeros: what a restore has to write.</summary>
    public long DataBytes { get; init; }

    /// <summary>Bytes of the file.</summary>
    public long StoredBytes { get; init; }

    /// <summary>How it was cut, one of <see cref="DiskMethods"/>.</summary>
    // If the file lacks a field, generated code sets it to null, past the initializer.
    public string Method
    {
        get;
        init => field = value ?? DiskMethods.None;
    } = DiskMethods.None;

    /// <summary>Why its content is not in the snapshot; null if it is.</summary>
    public string? Note { get; init; }

    /// <summary>Whether its image was encrypted (LUKS) while its content in the snapshot is not.</summary>
    public bool Decrypted { get; init; }

    /// <summary>The VolumeSnapshot that holds its content; null without one.</summary>
    public string? VolumeSnapshot { get; init; }

    /// <summary>Whether the guest cannot write to it.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>Whether the guest's drive takes removable media.</summary>
    public bool Removable { get; init; }

    /// <summary>The guest's device, <c>query-block</c>'s <c>qdev</c>; null for a disk without one.</summary>
    public string? Device { get; init; }

    /// <summary>QEMU's block node that the guest wrote to; null for a drive without a medium.</summary>
    public string? NodeName { get; init; }

    /// <summary>The image below the node; null if that is not a file.</summary>
    public ManifestImage? Image { get; init; }

    /// <summary>The file for a disk of this name.</summary>
    public static string FileOf(string name) => $"{FormatV1.DisksFolderName}/{name}.qcow2";

    /// <summary>What is invalid in this record, or null.</summary>
    internal string? Problem()
    {
        if (Name.Length is 0 or > MaxNameLength || Name[0] == '.' || !Name.All(IsNameCharacter))
            return $"a disk's name is not a sequence of up to {MaxNameLength} letters, digits, '.', '_' and '-'";
        if (VirtualSize < 0 || DataBytes < 0 || StoredBytes < 0)
            return $"disk {Name} has a negative size";
        if ((File is null) != (Format is null))
            return $"disk {Name} has a file without a format, or a format without a file";
        if (Format is not (null or DiskFormats.Qcow2))
            return $"disk {Name} is stored as {Format}, which this program does not read";
        if (File is not null && !File.StartsWith(FormatV1.DisksFolderName + "/", StringComparison.Ordinal))
            return $"the file {File} of disk {Name} is not in {FormatV1.DisksFolderName}/";
        return null;
    }

    private static bool IsNameCharacter(char c) => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-';
}

/// <summary>The image behind a disk, as QEMU used it.</summary>
public sealed record ManifestImage
{
    /// <summary>QEMU's format driver, such as <c>raw</c> or <c>qcow2</c>.</summary>
    public required string Driver { get; init; }

    /// <summary>Its path as QEMU saw it, such as <c>/disks/0/disk.img</c>.</summary>
    public required string Filename { get; init; }

    /// <summary>Owner, as a number of the initial user namespace.</summary>
    public uint Uid { get; init; }

    /// <summary>Group, as a number of the initial user namespace.</summary>
    public uint Gid { get; init; }

    /// <summary>Permissions in octal, such as <c>0600</c>; null if unknown.</summary>
    public string? Mode { get; init; }
}

/// <summary>Formats of disk files in a snapshot.</summary>
public static class DiskFormats
{
    /// <summary>The only format.</summary>
    public const string Qcow2 = "qcow2";
}

/// <summary>How the disks were cut at the point in time.</summary>
public static class DiskMethods
{
    /// <summary>QEMU copied what the guest was about to overwrite.</summary>
    public const string CopyBeforeWrite = "copy-before-write";

    /// <summary>The guest wrote to an overlay, which was committed afterwards.</summary>
    public const string Overlay = "overlay";

    /// <summary>The storage cut them, with CSI VolumeSnapshots.</summary>
    public const string VolumeSnapshot = "volume-snapshot";

    /// <summary>They were not cut.</summary>
    public const string None = "none";
}
