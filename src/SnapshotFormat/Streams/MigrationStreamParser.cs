using System.Diagnostics;

namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>
/// Reads the migration stream of a stock QEMU as it arrives: of a <c>background-snapshot</c>, of a plain <c>migrate</c>, or of our own
/// <see cref="MigrationStreamWriter"/>.
/// </summary>
/// <remarks>
/// <code>
///   file header ─▶ configuration ─▶ START ram: block list ─▶ PART/END ram: pages … ─▶ devices ─▶ end
/// </code>
/// <para>The input is pushed in pieces of any size. Each piece is read in units (a header, a page record). A unit that ends beyond the
/// piece is carried over, so a page is copied only where two pieces meet.</para>
/// <para>A background snapshot has no END section for RAM: its devices follow the last PART, because QEMU saved them
/// into a buffer before the first page and sends that buffer last.</para>
/// <para>The input is hostile: every length has a cap and is checked before it is used. After an exception the parser cannot be used any
/// more.</para>
/// </remarks>
public sealed class MigrationStreamParser
{
    // The longest unit is a page record that names its block. Twice that, so that topping up always completes a unit.
    private const int LargestUnit = MigrationFormat.PageWordLength + 1 + MigrationFormat.MaxNameLength + MigrationFormat.PageSize;

    private readonly StreamHeadParser _head;
    private readonly RamPageParser _pages;
    private readonly DeviceTail _tail = new();
    private readonly byte[] _carry = new byte[2 * LargestUnit];
    private int _carryLength;
    private long _position;

    /// <summary>Creates a parser.</summary>
    /// <param name="sink">Receives the pages.</param>
    public MigrationStreamParser(IMigrationStreamSink sink)
    {
        ArgumentNullException.ThrowIfNull(sink);
        _pages = new RamPageParser(sink);
        _head = new StreamHeadParser(sink, _pages);
    }

    /// <summary>Bytes of the stream that were parsed so far.</summary>
    public long Position => _position;

    /// <summary>Reads a stream to its end.</summary>
    /// <param name="stream">A file, pipe or socket; left open.</param>
    /// <param name="sink">Receives the pages.</param>
    /// <param name="cancellationToken">
    /// Checked between two reads; to end a read that waits for QEMU, close the stream.
    /// </param>
    /// <exception cref="MigrationStreamException">The stream is damaged, cut short or of a kind that we do not read.</exception>
    public static MigrationStreamContents Parse(Stream stream, IMigrationStreamSink sink, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(stream);
        var parser = new MigrationStreamParser(sink);
        byte[] buffer = GC.AllocateUninitializedArray<byte>(1 << 20);
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            int read = stream.Read(buffer);
            if (read == 0)
                return parser.Complete();
            parser.Feed(buffer.AsSpan(0, read));
        }
    }

    /// <summary>Parses the next bytes of the stream.</summary>
    /// <exception cref="MigrationStreamException">The stream is damaged or of a kind that we do not read.</exception>
    public void Feed(ReadOnlySpan<byte> input)
    {
        if (_carryLength > 0)
            input = FinishCarriedUnit(input);
        int used = ParseUnits(input);
        ReadOnlySpan<byte> rest = input[used..];
        Debug.Assert(rest.Length <= LargestUnit, "a unit is longer than the longest");
        rest.CopyTo(_carry.AsSpan(_carryLength));
        _carryLength += rest.Length;
    }

    /// <summary>Ends the stream and returns its contents.</summary>
    /// <exception cref="MigrationStreamException">The stream ended too early, or its device state is damaged.</exception>
    public MigrationStreamContents Complete()
    {
        if (!_tail.Started)
        {
            throw new MigrationStreamException($"The migration stream was cut short: it ended {_head.Where}.", _position + _carryLength);
        }
        (DeviceStateFile deviceState, VmDescription? description) = _tail.Complete();
        return new MigrationStreamContents(
            _head.MachineType,
            _head.Blocks,
            deviceState,
            description,
            _pages.Pages,
            _pages.ZeroPages,
            _position
        );
    }

    private ReadOnlySpan<byte> FinishCarriedUnit(ReadOnlySpan<byte> input)
    {
        int before = _carryLength;
        int added = Math.Min(input.Length, _carry.Length - before);
        input[..added].CopyTo(_carry.AsSpan(before));
        int used = ParseUnits(_carry.AsSpan(0, before + added));
        if (used == 0)
        {
            // The unit is still incomplete; there is room for a whole unit, so all of the input went into the carry.
            Debug.Assert(added == input.Length, "a unit is longer than the longest");
            _carryLength = before + added;
            return [];
        }
        // The carry held an incomplete unit, so the bytes that completed it came from the input.
        Debug.Assert(used > before, "a unit was carried although it was complete");
        _carryLength = 0;
        return input[(used - before)..];
    }

    private int ParseUnits(ReadOnlySpan<byte> input)
    {
        int total = 0;
        while (total < input.Length)
        {
            ReadOnlySpan<byte> rest = input[total..];
            int used;
            if (_tail.Started)
                used = _tail.Append(rest);
            else if (_pages.Active)
                used = _pages.Parse(rest, _position);
            else
                used = _head.ParseUnit(rest, _position);
            if (used == 0 && !(_head.DevicesReached && !_tail.Started))
                break;
            if (_head.DevicesReached && !_tail.Started)
                _tail.Start(_position + used);
            total += used;
            _position += used;
        }
        return total;
    }
}
