using Bgsnap.SnapshotFormat.Streams;

namespace Bgsnap.Linux.Tests.Streams;

/// <summary>RAM that a parser fills and a writer reads.</summary>
internal sealed unsafe class ParsedRam : IRamSource, IMigrationStreamSink
{
    private readonly List<(string Name, ulong UsedLength)> _blocks = [];
    private readonly List<byte[]> _memory = [];

    public IReadOnlyList<(string Name, ulong UsedLength)> Blocks => _blocks;

    public byte[] this[string block] => _memory[_blocks.FindIndex(b => b.Name == block)];

    public IGranuleReader CreateReader() => new Reader(_memory);

    public void OnBlocks(IReadOnlyList<StreamRamBlock> blocks)
    {
        foreach (StreamRamBlock block in blocks)
        {
            _blocks.Add((block.Name, block.UsedLength));
            _memory.Add(new byte[block.UsedLength]);
        }
    }

    public void OnPage(int block, ulong offset, ReadOnlySpan<byte> page) => page.CopyTo(_memory[block].AsSpan((int)offset));

    public void OnZeroPage(int block, ulong offset) => _memory[block].AsSpan((int)offset, 4096).Clear();

    private sealed class Reader(List<byte[]> memory) : IGranuleReader
    {
        public ushort Read(int block, long granule, byte* destination)
        {
            ReadOnlySpan<byte> source = memory[block].AsSpan((int)(granule * 65536));
            source = source[..Math.Min(source.Length, 65536)];
            source.CopyTo(new Span<byte>(destination, 65536));
            ushort present = 0;
            for (int page = 0; page < source.Length / 4096; page++)
            {
                if (source.Slice(page * 4096, 4096).ContainsAnyExcept((byte)0))
                    present |= (ushort)(1 << page);
            }
            return present;
        }

        public void Dispose() { }
    }
}
