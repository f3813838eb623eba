using System.Buffers.Binary;
using System.Text;

namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>Reads the page records of a RAM section up to its end mark.</summary>
internal sealed class RamPageParser(IMigrationStreamSink sink)
{
    private const ulong Data = MigrationFormat.FlagPage;
    private const ulong Zero = MigrationFormat.FlagZero;

    private byte[][] _names = [];
    private ulong[] _usedLengths = [];
    private int _block = -1;

    /// <summary>Whether the parser is between the head of a section and its end mark.</summary>
    public bool Active { get; private set; }

    /// <summary>Number of pages with content so far.</summary>
    public long Pages { get; private set; }

    /// <summary>Number of zero pages so far.</summary>
    public long ZeroPages { get; private set; }

    /// <summary>Sets the blocks that records may name.</summary>
    public void SetBlocks(IReadOnlyList<StreamRamBlock> blocks)
    {
        _names = [.. blocks.Select(b => Encoding.ASCII.GetBytes(b.Name))];
        _usedLengths = [.. blocks.Select(b => b.UsedLength)];
    }

    /// <summary>Starts a section.</summary>
    public void Begin() => Active = true;

    /// <summary>Reads all complete records.</summary>
    /// <param name="input">The next bytes of the stream.</param>
    /// <param name="position">Offset in the stream at which the input begins.</param>
    /// <returns>Bytes read; <see cref="Active"/> is false if the end mark was among them.</returns>
    public int Parse(ReadOnlySpan<byte> input, long position)
    {
        int at = 0;
        while (input.Length - at >= MigrationFormat.PageWordLength)
        {
            ulong word = BinaryPrimitives.ReadUInt64BigEndian(input[at..]);
            ulong flags = word & MigrationFormat.FlagMask;
            ulong offset = word & ~MigrationFormat.FlagMask;
            ulong kind = flags & ~MigrationFormat.FlagContinue;
            int payload = at + MigrationFormat.PageWordLength;

            if (flags == MigrationFormat.FlagEos)
            {
                if (offset != 0)
                    throw new MigrationStreamException("The end mark of a RAM section has an address.", position + at);
                Active = false;
                return payload;
            }
            if (kind != Data && kind != Zero)
                throw UnknownFlags(flags, position + at);
            if ((flags & MigrationFormat.FlagContinue) == 0)
            {
                if (!TryReadBlockName(input, ref payload, position))
                    return at;
            }
            else if (_block < 0)
            {
                throw new MigrationStreamException("The first page names no RAM block.", position + at);
            }
            if (offset >= _usedLengths[_block])
                throw new MigrationStreamException(
                    $"Page {offset:x} lies outside RAM block '{Encoding.ASCII.GetString(_names[_block])}'.",
                    position + at
                );

            int length = kind == Data ? MigrationFormat.PageSize : 1;
            if (input.Length - payload < length)
                return at;
            if (kind == Data)
            {
                sink.OnPage(_block, offset, input.Slice(payload, MigrationFormat.PageSize));
                Pages++;
            }
            else
            {
                if (input[payload] != 0)
                    throw new MigrationStreamException("A zero page has a fill byte other than 0.", position + payload);
                sink.OnZeroPage(_block, offset);
                ZeroPages++;
            }
            at = payload + length;
        }
        return at;
    }

    private bool TryReadBlockName(ReadOnlySpan<byte> input, ref int at, long position)
    {
        if (input.Length - at < 1 || input.Length - at < 1 + input[at])
            return false;
        ReadOnlySpan<byte> name = input.Slice(at + 1, input[at]);
        // QEMU sends blocks in their order: the block it names is mostly the last one or the next.
        for (int i = 0; i < _names.Length; i++)
        {
            int candidate = (Math.Max(_block, 0) + i) % _names.Length;
            if (name.SequenceEqual(_names[candidate]))
            {
                _block = candidate;
                at += 1 + name.Length;
                return true;
            }
        }
        string shown = MigrationFormat.IsName(name) ? Encoding.ASCII.GetString(name) : Convert.ToHexString(name);
        throw new MigrationStreamException($"A page names RAM block '{shown}', which was not announced.", position + at);
    }

    private static MigrationStreamException UnknownFlags(ulong flags, long position)
    {
        // migration/ram.c, RAM_SAVE_FLAG_*: what a capability that we did not request would send.
        string reason = (flags & ~MigrationFormat.FlagContinue) switch
        {
            0x40 => "was compressed with the xbzrle capability",
            0x80 => "was sent by RDMA",
            0x100 => "was compressed with the compress capability",
            0x200 => "was sent with the multifd capability",
            _ => $"has flags 0x{flags:x} that are unknown",
        };
        return new MigrationStreamException($"A page {reason}; the capability must be off.", position);
    }
}
