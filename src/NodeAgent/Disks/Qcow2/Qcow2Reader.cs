using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Disks.Qcow2;

/// <summary>A run of a disk.</summary>
/// <param name="Offset">Where it begins on the disk, in bytes.</param>
/// <param name="Length">Its bytes.</param>
/// <param name="IsData">False: it reads as zeros and nothing is stored for it.</param>
internal readonly record struct DiskExtent(long Offset, long Length, bool IsData);

/// <summary>Reads a qcow2 file that nobody vouches for. Not for several threads at once.</summary>
internal sealed class Qcow2Reader
{
    /// <summary>Bytes that the guest sees.</summary>
    public long VirtualSize { get; }

    /// <summary>Checks the header of a file. The handle stays the caller's.</summary>
    /// <param name="file">The file, open for reading.</param>
    /// <param name="size">Its bytes.</param>
    /// <param name="display">Its name for errors.</param>
    /// <exception cref="Store.SnapshotCorruptException">It is no qcow2 file, or one with a backing file, snapshots, encryption,
    /// compression, or features that this program does not know.</exception>
    public static Qcow2Reader Open(SafeFileHandle file, long size, string display) => throw new NotImplementedException();

    /// <summary>Fills the span from <paramref name="offset"/>, zeros included.</summary>
    /// <exception cref="ArgumentOutOfRangeException">It leads past the disk's end.</exception>
    /// <exception cref="Store.SnapshotCorruptException">The tables that lead there are wrong.</exception>
    public void Read(long offset, Span<byte> into) => throw new NotImplementedException();

    /// <summary>The disk from its beginning to its end, neighbours of a kind joined.</summary>
    /// <exception cref="Store.SnapshotCorruptException">The tables are wrong.</exception>
    public IEnumerable<DiskExtent> Extents() => throw new NotImplementedException();
}
