using Bgsnap.SnapshotFormat.Streams;

namespace Bgsnap.NodeAgent.Tests.Streams;

/// <summary>RAM in arrays: a source for the writer and a sink for the parser.</summary>
internal sealed unsafe class MemoryRam : IRamSource, IMigrationStreamSink
{
    private readonly List<(string Name, ulong UsedLength)> _blocks = [];
    private readonly List<byte[]> _memory = [];

    public IReadOnlyList<(string Name, ulong UsedLength)> Blocks => _blocks;

    public IReadOnlyList<byte[]> Memory => _memory;

    public int PagesSeen { get; private set; }

    public int ZeroPagesSeen { get; private set; }

    /// <summary>The exception that readers throw from that granule on.</summary>
    public (long Granule, Exception Error)? Failure { get; init; }

    public MemoryRam Add(string name, byte[] content)
    {
        _blocks.Add((name, (ulong)content.Length));
        _memory.Add(content);
        return this;
    }

    public IGranuleReader CreateReader() => new Reader(this);

    public void OnBlocks(IReadOnlyList<StreamRamBlock> blocks)
    {
        Assert.Empty(_blocks);
        foreach (StreamRamBlock block in blocks)
        {
            // 0xee where nothing was loaded, so that a missing zero page shows.
            byte[] memory = new byte[Math.Min(block.UsedLength, 64 << 20)];
            memory.AsSpan().Fill(0xee);
            Add(block.Name, memory);
        }
    }

    public void OnPage(int block, ulong offset, ReadOnlySpan<byte> page)
    {
        PagesSeen++;
        Assert.Equal(4096, page.Length);
        page.CopyTo(_memory[block].AsSpan((int)offset));
    }

    public void OnZeroPage(int block, ulong offset)
    {
        ZeroPagesSeen++;
        _memory[block].AsSpan((int)offset, 4096).Clear();
    }

    public void AssertSame(MemoryRam other)
    {
        Assert.Equal(_blocks, other._blocks);
        for (int i = 0; i < _memory.Count; i++)
            Assert.True(_memory[i].AsSpan().SequenceEqual(other._memory[i]), $"block {_blocks[i].Name} differs");
    }

    private sealed class Reader(MemoryRam ram) : IGranuleReader
    {
        public ushort Read(int block, long granule, byte* destination)
        {
            if (ram.Failure is { } failure && granule >= failure.Granule)
                throw failure.Error;
            // The rest of the last granule stays unset: the writer must not look at it.
            ReadOnlySpan<byte> source = ram._memory[block].AsSpan((int)(granule * 65536));
            source = source[..Math.Min(source.Length, 65536)];
            source.CopyTo(new Span<byte>(destination, 65536));
            ushort present = source.Length < 65536 ? (ushort)(0xffff << (source.Length / 4096)) : (ushort)0;
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
