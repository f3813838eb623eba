namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>A RAM block that a stream announced.</summary>
/// <param name="Name">QEMU's name for it.</param>
/// <param name="UsedLength">Bytes, a multiple of 4096.</param>
public readonly record struct StreamRamBlock(string Name, ulong UsedLength);

/// <summary>Receives RAM from a <see cref="MigrationStreamParser"/>, on the thread that feeds it.</summary>
/// <remarks>
/// An exception thrown here ends the parse and reaches the feeder unchanged. A plain migration of a running guest sends a page again if the
/// guest wrote it meanwhile: the last one counts. A background snapshot sends each page once.
/// </remarks>
public interface IMigrationStreamSink
{
    /// <summary>All blocks, once, before any page.</summary>
    void OnBlocks(IReadOnlyList<StreamRamBlock> blocks);

    /// <summary>A page with its content.</summary>
    /// <param name="block">Index into the blocks.</param>
    /// <param name="offset">Byte offset in the block, a multiple of 4096, inside its used length.</param>
    /// <param name="page">4096 bytes, valid during the call, of any alignment, possibly all zero.</param>
    void OnPage(int block, ulong offset, ReadOnlySpan<byte> page);

    /// <summary>A page that is all zero.</summary>
    /// <param name="block">Index into the blocks.</param>
    /// <param name="offset">Byte offset in the block, a multiple of 4096, inside its used length.</param>
    void OnZeroPage(int block, ulong offset);
}
