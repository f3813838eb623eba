namespace Bgsnap.Linux.Tests.Harness;

public enum DiskFormat
{
    Raw,
    Qcow2,
}

public enum DiskBus
{
    VirtioBlk,
    VirtioScsi,
    Ide,
}

/// <summary>How a disk is named on QEMU's command line.</summary>
public enum DiskArguments
{
    /// <summary>-blockdev and node names, as libvirt does: a raw image is one node, a qcow2 image a node above another.</summary>
    Blockdev,

    /// <summary>-drive with an id.</summary>
    Drive,
}

/// <summary>
/// A disk of a test machine. The harness creates its image in the machine's folder when the machine starts, and removes it with the
/// machine.
/// </summary>
public sealed record TestDisk
{
    /// <summary>The device's id with -blockdev, the drive's with -drive.</summary>
    public string Name { get; init; } = "vda";

    public DiskFormat Format { get; init; }

    public DiskBus Bus { get; init; }

    public DiskArguments Arguments { get; init; }

    /// <summary>A loop device over the image instead of the file.</summary>
    public bool IsBlockDevice { get; init; }

    /// <summary>Served by an iothread of its own.</summary>
    public bool IoThread { get; init; }

    public bool ReadOnly { get; init; }

    /// <summary>A medium in a CD drive; always read-only, always ide.</summary>
    public bool IsCdrom { get; init; }

    public int MiB { get; init; } = 16;

    /// <summary>QEMU does not pass flushes on to the host: a test guest need not survive a power cut.</summary>
    public bool NoFlush { get; init; } = true;

    /// <summary>True: the image starts full of random data, so that copying it takes time and space. False: empty.</summary>
    public bool IsFull { get; init; }

    /// <summary>An image to copy, qcow2 or raw; null: a new one.</summary>
    public string? CopyOf { get; init; }

    public override string ToString() =>
        $"{Name}:{Format}/{(IsCdrom ? "cdrom" : Bus)}/{Arguments}"
        + $"{(IsBlockDevice ? "/loop" : "")}{(IoThread ? "/iothread" : "")}{(ReadOnly ? "/ro" : "")}";
}
