using Bgsnap.SnapshotFormat.Store;
using Bgsnap.SnapshotFormat.Streams;

namespace Bgsnap.Engine.Restore;

/// <summary>A snapshot's memory as the source of a migration stream.</summary>
internal sealed class SnapshotRam(PageLogReader log) : IRamSource
{
    public IReadOnlyList<(string Name, ulong UsedLength)> Blocks { get; } = [.. log.Blocks.Select(b => (b.Name, b.UsedLength))];

    public IGranuleReader CreateReader() => new Reader(log);

    private sealed unsafe class Reader(PageLogReader log) : IGranuleReader
    {
        private readonly GranuleDecoder _decoder = new();

        public ushort Read(int block, long granule, byte* destination)
        {
            ushort pages = log.PageBitmap(block, granule);
            // The index tells that a granule is zero: nothing is read, and 64 KiB need no clearing.
            if (pages != 0)
                log.ReadGranule(block, granule, destination, _decoder);
            return pages;
        }

        public void Dispose() => _decoder.Dispose();
    }
}
