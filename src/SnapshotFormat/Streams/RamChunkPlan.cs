namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>A run of granules of one block that is read and sent at once.</summary>
/// <param name="Block">Index of the block.</param>
/// <param name="FirstGranule">First granule, in units of 65536 bytes.</param>
/// <param name="Granules">Number of granules.</param>
/// <param name="Bytes">Bytes of guest RAM in them.</param>
internal readonly record struct RamChunkPlan(int Block, long FirstGranule, int Granules, ulong Bytes)
{
    /// <summary>Granules of a full chunk: 512 KiB, which stays in a core's cache between reader and writer.</summary>
    public const int MaxGranules = 8;

    /// <summary>All chunks of the included blocks, in the order of the stream.</summary>
    public static IEnumerable<RamChunkPlan> Enumerate(IReadOnlyList<(string Name, ulong UsedLength)> blocks, Func<int, bool>? include)
    {
        const ulong chunkBytes = (ulong)MaxGranules * MigrationFormat.GranuleSize;
        for (int block = 0; block < blocks.Count; block++)
        {
            if (include is not null && !include(block))
                continue;
            ulong length = blocks[block].UsedLength;
            for (ulong offset = 0; offset < length; offset += chunkBytes)
            {
                ulong bytes = Math.Min(chunkBytes, length - offset);
                yield return new RamChunkPlan(
                    block,
                    (long)(offset / MigrationFormat.GranuleSize),
                    (int)((bytes + MigrationFormat.GranuleSize - 1) / MigrationFormat.GranuleSize),
                    bytes
                );
            }
        }
    }
}
