using System.Buffers.Binary;
using System.Text;

namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>
/// Reads everything in a stream except pages and devices: header, configuration, section heads and footers, the block list.
/// </summary>
internal sealed class StreamHeadParser(IMigrationStreamSink sink, RamPageParser pages)
{
    private enum State
    {
        FileHeader,
        Configuration,
        Section,
        TotalBytes,
        Block,
        BlockListEnd,
        Pages,
        Footer,
    }

    private readonly List<StreamRamBlock> _blocks = [];
    private readonly HashSet<string> _names = new(StringComparer.Ordinal);
    private State _state;
    private ulong _bytesToAnnounce;
    private uint? _ramSectionId;
    private bool _sectionsBegun;
    private bool _pagesSeen;
    private bool _ramEnded;
    private bool _lastSectionIsEnd;
    private long _position;

    /// <summary>Machine type; empty until it has been read.</summary>
    public string MachineType { get; private set; } = "";

    /// <summary>The blocks announced so far.</summary>
    public IReadOnlyList<StreamRamBlock> Blocks => _blocks;

    /// <summary>Whether the next byte belongs to the first device section.</summary>
    public bool DevicesReached { get; private set; }

    /// <summary>The part of the stream that has been reached, to say where it was cut.</summary>
    public string Where =>
        _state switch
        {
            State.FileHeader => "in its header",
            State.Configuration => "in its configuration",
            State.TotalBytes or State.Block or State.BlockListEnd => "in the list of RAM blocks",
            State.Pages => "amid the pages of RAM",
            _ when _pagesSeen => "before the device state",
            _ => "before the pages of RAM",
        };

    /// <summary>Reads one unit.</summary>
    /// <param name="input">The next bytes of the stream.</param>
    /// <param name="position">Offset in the stream at which the input begins.</param>
    /// <returns>Bytes read; 0 if the unit is not complete yet, or if <see cref="DevicesReached"/>.</returns>
    public int ParseUnit(ReadOnlySpan<byte> input, long position)
    {
        _position = position;
        return _state switch
        {
            State.FileHeader => ParseFileHeader(input),
            State.Configuration => ParseConfiguration(input),
            State.Section => ParseSection(input),
            State.TotalBytes => ParseTotalBytes(input),
            State.Block => ParseBlock(input),
            State.BlockListEnd => ParseBlockListEnd(input),
            State.Pages => ParseFooterAfterPages(input),
            _ => ParseFooter(input),
        };
    }

    private int ParseFileHeader(ReadOnlySpan<byte> input)
    {
        if (input.Length < MigrationFormat.FileHeaderLength)
            return 0;
        if (BinaryPrimitives.ReadUInt32BigEndian(input) != MigrationFormat.Magic)
            throw Error("This is not a migration stream of QEMU: the magic is wrong.");
        uint version = BinaryPrimitives.ReadUInt32BigEndian(input[4..]);
        if (version != MigrationFormat.Version)
            throw Error($"The migration stream has version {version}; only {MigrationFormat.Version} is known.", 4);
        _state = State.Configuration;
        return MigrationFormat.FileHeaderLength;
    }

    private int ParseConfiguration(ReadOnlySpan<byte> input)
    {
        if (input[0] != MigrationFormat.Configuration)
            throw Error(
                "The stream has no configuration section: the machine type is older than QEMU 2.4, or "
                    + "migration.send-configuration is off."
            );
        if (input.Length < 5)
            return 0;
        uint length = BinaryPrimitives.ReadUInt32BigEndian(input[1..]);
        if (length is 0 or > MigrationFormat.MaxNameLength)
            throw Error($"The machine type cannot have {length} characters.", 1);
        int end = 5 + (int)length;
        if (input.Length < end)
            return 0;
        MachineType = ReadName(input[5..end], "machine type", 5);
        _state = State.Section;
        return end;
    }

    private int ParseSection(ReadOnlySpan<byte> input)
    {
        byte type = input[0];
        if (type == MigrationFormat.Subsection && !_sectionsBegun)
            return ConfigurationSubsection.Parse(input, _position);
        switch (type)
        {
            case MigrationFormat.Command:
                return ParseCommand(input);
            case MigrationFormat.SectionStart:
                return ParseStart(input);
            case MigrationFormat.SectionPart or MigrationFormat.SectionEnd when !_ramEnded:
                return ParsePagesHead(input, type == MigrationFormat.SectionEnd);
            case MigrationFormat.SectionFull when _pagesSeen:
                // A background snapshot ends RAM without an END section.
                DevicesReached = true;
                return 0;
            case MigrationFormat.SectionFull:
                if (!TryReadSectionHead(input, out _, out string early, out _, out int length))
                    return 0;
                throw Error($"Device '{early}' sends its state before RAM; such a stream cannot be read.");
            default:
                throw Error($"A section was expected, not type 0x{type:x2}.");
        }
    }

    private int ParseCommand(ReadOnlySpan<byte> input)
    {
        if (input.Length < 5)
            return 0;
        ushort command = BinaryPrimitives.ReadUInt16BigEndian(input[1..]);
        ushort length = BinaryPrimitives.ReadUInt16BigEndian(input[3..]);
        if (command != MigrationFormat.CommandSwitchoverStart || length != 0)
            throw Error($"The stream has command {command}, which belongs to a capability (postcopy, return-path, colo) that must be off.");
        return 5;
    }

    private int ParseStart(ReadOnlySpan<byte> input)
    {
        if (!TryReadSectionHead(input, out uint id, out string name, out uint version, out int length))
            return 0;
        if (name != MigrationFormat.RamSectionName)
            throw Error(
                $"Section '{name}' sends state in rounds, as RAM does (a disk, a bitmap, a passed-through "
                    + "device); only RAM may do that."
            );
        if (version != MigrationFormat.RamSectionVersion)
            throw Error($"The RAM section has version {version}; only {MigrationFormat.RamSectionVersion} is known.");
        if (_ramSectionId is not null)
            throw Error("The stream has a second RAM section.");
        _ramSectionId = id;
        _sectionsBegun = true;
        _state = State.TotalBytes;
        return length;
    }

    private int ParseTotalBytes(ReadOnlySpan<byte> input)
    {
        if (input.Length < 8)
            return 0;
        ulong word = BinaryPrimitives.ReadUInt64BigEndian(input);
        if ((word & MigrationFormat.FlagMask) != MigrationFormat.FlagMemSize)
            throw Error($"The RAM section does not begin with the size of RAM but with 0x{word:x}.");
        _bytesToAnnounce = word & ~MigrationFormat.FlagMask;
        if (_bytesToAnnounce is 0 or > MigrationFormat.MaxRamBytes)
            throw Error($"A guest cannot have {_bytesToAnnounce} bytes of RAM.");
        _state = State.Block;
        return 8;
    }

    private int ParseBlock(ReadOnlySpan<byte> input)
    {
        int end = 1 + input[0] + 8;
        if (input.Length < end)
            return 0;
        string name = ReadName(input.Slice(1, input[0]), "name of a RAM block", 1);
        ulong length = BinaryPrimitives.ReadUInt64BigEndian(input[(end - 8)..]);
        if (_blocks.Count == MigrationFormat.MaxBlocks)
            throw Error($"The stream has more than {MigrationFormat.MaxBlocks} RAM blocks.");
        if (!_names.Add(name))
            throw Error($"RAM block '{name}' is announced twice.");
        if (length == 0 || length % MigrationFormat.PageSize != 0 || length > _bytesToAnnounce)
            throw Error($"RAM block '{name}' cannot have {length} bytes.");
        _blocks.Add(new StreamRamBlock(name, length));
        _bytesToAnnounce -= length;
        if (_bytesToAnnounce == 0)
            _state = State.BlockListEnd;
        return end;
    }

    private int ParseBlockListEnd(ReadOnlySpan<byte> input)
    {
        if (input.Length < 8)
            return 0;
        // A capability such as x-ignore-shared or postcopy adds to the list; then the size of RAM does not match.
        if (BinaryPrimitives.ReadUInt64BigEndian(input) != MigrationFormat.FlagEos)
            throw Error("The list of RAM blocks does not end where its sizes say.");
        pages.SetBlocks(_blocks);
        sink.OnBlocks(_blocks);
        _state = State.Footer;
        return 8;
    }

    private int ParsePagesHead(ReadOnlySpan<byte> input, bool isEnd)
    {
        if (input.Length < 5)
            return 0;
        uint id = BinaryPrimitives.ReadUInt32BigEndian(input[1..]);
        if (id != _ramSectionId)
            throw Error($"Section {id} was not announced.", 1);
        _lastSectionIsEnd = isEnd;
        _pagesSeen = true;
        _state = State.Pages;
        pages.Begin();
        return 5;
    }

    private int ParseFooterAfterPages(ReadOnlySpan<byte> input)
    {
        int used = ParseFooter(input);
        if (used != 0)
            _ramEnded |= _lastSectionIsEnd;
        return used;
    }

    private int ParseFooter(ReadOnlySpan<byte> input)
    {
        if (input[0] != MigrationFormat.SectionFooter)
            throw Error($"The footer of the RAM section was expected, not 0x{input[0]:x2}.");
        if (input.Length < 5)
            return 0;
        uint id = BinaryPrimitives.ReadUInt32BigEndian(input[1..]);
        if (id != _ramSectionId)
            throw Error($"The footer of the RAM section has id {id}, not {_ramSectionId}.", 1);
        _state = State.Section;
        return 5;
    }

    private bool TryReadSectionHead(ReadOnlySpan<byte> input, out uint id, out string name, out uint version, out int length)
    {
        id = version = 0;
        name = "";
        length = 0;
        if (input.Length < 6 || input.Length < 6 + input[5] + 8)
            return false;
        length = 6 + input[5] + 8;
        id = BinaryPrimitives.ReadUInt32BigEndian(input[1..]);
        name = ReadName(input.Slice(6, input[5]), "name of a section", 6);
        version = BinaryPrimitives.ReadUInt32BigEndian(input[(length - 4)..]);
        return true;
    }

    private string ReadName(ReadOnlySpan<byte> bytes, string what, int at) =>
        MigrationFormat.IsName(bytes)
            ? Encoding.ASCII.GetString(bytes)
            : throw Error($"The {what} is not 1 to {MigrationFormat.MaxNameLength} printable characters.", at);

    private MigrationStreamException Error(string message, int at = 0) => new(message, _position + at);
}
