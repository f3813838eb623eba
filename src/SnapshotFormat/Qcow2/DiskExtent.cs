namespace Bgsnap.SnapshotFormat.Qcow2;

/// <summary>A run of a disk.</summary>
/// <param name="Offset">Where it begins on the disk, in bytes.</param>
/// <param name="Length">Its bytes.</param>
/// <param name="IsData">False if it reads as zeros and nothing is stored for it.</param>
internal readonly record struct DiskExtent(long Offset, long Length, bool IsData);
