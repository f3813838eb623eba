using System.Buffers.Binary;
using System.Text;

namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>
/// Turns granules into page records, for one reader thread.
/// </summary>
/// <remarks>
/// <code>
///   be64 offset | flags   [u8 length, name: unless flag 0x20, same block as the record before]   4096 bytes, or 00
/// </code>
/// Zero pages are sent too. RAM of a new QEMU is zero only where nothing was loaded: ROMs, kernels and what <c>-device loader</c> put into
/// RAM at reset are there before the stream is, and would stay in a page that is left out. A zero page costs 9 bytes, and QEMU writes
/// nothing where memory is already zero.
/// </remarks>
internal sealed unsafe class RamChunkBuilder
{
    private const int PageRecordLength = MigrationFormat.PageWordLength + MigrationFormat.PageSize;

    private readonly IReadOnlyList<(string Name, ulong UsedLength)> _blocks;
    private readonly IGranuleReader _reader;
    private readonly byte* _staging;
    private readonly Func<int, long, bool>? _isZeroInTarget;

    /// <param name="blocks">The blocks of the stream.</param>
    /// <param name="reader">Source of the granules.</param>
    /// <param name="staging">65536 bytes for this thread.</param>
    /// <param name="isZeroInTarget">See <see cref="MigrationStreamWriterOptions.IsZeroInTarget"/>.</param>
    public RamChunkBuilder(
        IReadOnlyList<(string Name, ulong UsedLength)> blocks,
        IGranuleReader reader,
        byte* staging,
        Func<int, long, bool>? isZeroInTarget
    )
    {
        _isZeroInTarget = isZeroInTarget;
        _blocks = blocks;
        _reader = reader;
        _staging = staging;
    }

    /// <summary>The most bytes that a chunk of this many granules can take.</summary>
    public static int Capacity(int granules) =>
        1 + MigrationFormat.MaxNameLength + granules * MigrationFormat.PagesPerGranule * PageRecordLength;

    /// <summary>Writes the records of a chunk.</summary>
    /// <returns>Bytes written.</returns>
    public int Build(in RamChunkPlan chunk, byte* destination)
    {
        (string name, ulong usedLength) = _blocks[chunk.Block];
        byte* to = destination;
        ulong flags = 0;
        for (int i = 0; i < chunk.Granules; i++)
        {
            long granule = chunk.FirstGranule + i;
            ulong offset = (ulong)granule * MigrationFormat.GranuleSize;
            int pages = (int)Math.Min(MigrationFormat.PagesPerGranule, (usedLength - offset) / MigrationFormat.PageSize);

            // SAFETY: _staging has 65536 bytes, all that a reader may write; `destination` has Capacity(Granules).
            uint present = _reader.Read(chunk.Block, granule, _staging);
            bool skipZeroes = _isZeroInTarget is not null && _isZeroInTarget(chunk.Block, granule);
            for (int page = 0; page < pages; page++, offset += MigrationFormat.PageSize)
            {
                bool data = (present >> page & 1) != 0;
                if (!data && skipZeroes)
                    continue;
                ulong word = offset | flags | (data ? MigrationFormat.FlagPage : MigrationFormat.FlagZero);
                *(ulong*)to = BinaryPrimitives.ReverseEndianness(word);
                to += MigrationFormat.PageWordLength;
                if (flags == 0)
                {
                    // Each chunk names its block again, so that no chunk depends on the one before it.
                    *to++ = (byte)name.Length;
                    to += Encoding.ASCII.GetBytes(name, new Span<byte>(to, name.Length));
                    flags = MigrationFormat.FlagContinue;
                }
                if (data)
                {
                    Buffer.MemoryCopy(_staging + page * MigrationFormat.PageSize, to, MigrationFormat.PageSize, MigrationFormat.PageSize);
                    to += MigrationFormat.PageSize;
                }
                else
                {
                    *to++ = 0;
                }
            }
        }
        return (int)(to - destination);
    }
}
