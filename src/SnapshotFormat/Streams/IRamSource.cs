namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>RAM from which a stream is written: a snapshot's page log, or memory in a test.</summary>
public interface IRamSource
{
    /// <summary>
    /// QEMU's RAM blocks in the order of the stream: QEMU's name, and the used length in bytes,
    /// a multiple of 4096 greater than zero.
    /// </summary>
    IReadOnlyList<(string Name, ulong UsedLength)> Blocks { get; }

    /// <summary>Creates a reader for one thread; several readers may read at once.</summary>
    IGranuleReader CreateReader();
}

/// <summary>Reads granules of 65536 bytes, in any order, for one thread.</summary>
public unsafe interface IGranuleReader : IDisposable
{
    /// <summary>Reads one granule.</summary>
    /// <param name="block">Index into <see cref="IRamSource.Blocks"/>.</param>
    /// <param name="granule">Offset in the block divided by 65536.</param>
    /// <param name="destination">
    /// Room for 65536 bytes. The caller does not read zero pages or what lies beyond the block's used length.
    /// </param>
    /// <returns>Bit n is set if page n of the granule is not all zero.</returns>
    /// <exception cref="IOException">The granule cannot be read, or differs from what was written.</exception>
    ushort Read(int block, long granule, byte* destination);
}
