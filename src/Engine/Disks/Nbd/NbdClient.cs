using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Text;
using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Qcow2;
using static Bgsnap.Engine.Disks.Nbd.NbdProtocol;

namespace Bgsnap.Engine.Disks.Nbd;

/// <summary>
/// One connection to an export, with one request at a time: parallel reading needs several connections. The client trusts the server
/// little: it accepts a reply only for the request in progress, and only the bytes that it asked for. Nothing is allocated per request.
/// </summary>
/// <remarks>
/// Every reply fits into the buffer of a unix socket. If a reply did not fit, QEMU would wait in the middle of a request until the agent
/// reads on, and whatever drains the disk meanwhile (stop, reset, block-export-del) would wait with it: a stopped agent would hang the
/// guest. Hence one request at a time, reads of at most <see cref="MaxRead"/> in one chunk, and block status in small portions.
/// </remarks>
internal sealed unsafe class NbdClient
{
    /// <summary>The most bytes of one read.</summary>
    public const int MaxRead = 128 << 10;

    /// <summary>
    /// The longest run for which all extents are requested at once: at 512 bytes, the smallest possible extent, they fit a reply of 128
    /// KiB.
    /// </summary>
    public const uint MaxDetail = 8 << 20;

    private const int MaxExtents = (int)(MaxDetail / 512);

    // A run for which only the first extent is requested; a multiple of every block size.
    private const uint MaxOverview = 1u << 31;

    private readonly NbdSocket _socket;
    private readonly byte[] _small = new byte[MaxString + 64];
    private uint _state = NBD_STATE_ZERO;
    private ulong _cookie;
    private NbdCommand _command;
    private long _offset;
    private uint _length,
        _received;
    private byte* _into;
    private List<NbdExtent>? _extents;

    private NbdClient(NbdSocket socket, NbdExport export) => (_socket, Export, CanTrim) = (socket, export, export.CanTrim);

    /// <summary>How long a server may take to answer.</summary>
    public static TimeSpan DefaultPatience { get; } = TimeSpan.FromSeconds(30);

    /// <summary>The negotiated export.</summary>
    public NbdExport Export { get; }

    /// <summary>Whether the server accepts trims. False once it has refused one: trims are only an aid.</summary>
    public bool CanTrim { get; private set; }

    /// <summary>Opens an export.</summary>
    /// <param name="socket">Connected, nothing sent or received yet. The caller owns it and must not close it before the export is gone; no
    /// message is ever left half sent in it.</param>
    /// <param name="export">The export's name.</param>
    /// <param name="cancel">Ends this and every later wait.</param>
    /// <param name="patience">How long the server may take for each answer; default: 30 seconds.</param>
    /// <param name="singleClusters">See <see cref="SingleClusters"/>.</param>
    /// <exception cref="NbdException">The server has no such export, is too old or silent, or is not an NBD server.</exception>
    /// <exception cref="OperationCanceledException">The negotiation was cancelled.</exception>
    public static NbdClient Negotiate(
        UnixSocket socket,
        string export,
        CancellationToken cancel,
        TimeSpan? patience = null,
        bool singleClusters = false
    )
    {
        if (Encoding.UTF8.GetByteCount(export) > MaxString)
            throw new ArgumentException("the export's name is too long", nameof(export));
        NbdSocket checkedSocket = new(socket, export, patience ?? DefaultPatience, cancel);
        return new NbdClient(checkedSocket, new NbdHandshake(checkedSocket, export).Run()) { SingleClusters = singleClusters };
    }

    /// <summary>Opens an export to ask which parts a dirty bitmap marks, instead of which are zero.</summary>
    /// <exception cref="NbdException">As for <see cref="Negotiate"/>; also if the server does not know the bitmap.</exception>
    public static NbdClient NegotiateBitmap(UnixSocket socket, string export, string bitmap, CancellationToken cancel)
    {
        NbdSocket checkedSocket = new(socket, export, DefaultPatience, cancel);
        NbdExport agreed = new NbdHandshake(checkedSocket, export, DirtyBitmap + bitmap).Run();
        return agreed.AllocationContext is not null
            ? new NbdClient(checkedSocket, agreed) { _state = NBD_STATE_DIRTY }
            : throw checkedSocket.Error($"the server does not offer bitmap {bitmap}");
    }

    /// <summary>
    /// Request no more than one cluster at a time, and never what is allocated. A copy-before-write filter of QEMU before 8.0 answers
    /// wrongly for a run that begins with clusters it has saved and continues with others: not what was saved, but what the guest wrote
    /// since.
    /// </summary>
    public bool SingleClusters { get; init; }

    /// <summary>Reads bytes.</summary>
    /// <param name="offset">Multiple of the minimum block.</param>
    /// <param name="length">Multiple of the minimum block, 1 to <see cref="MaxRead"/>, not past the export's end.</param>
    /// <param name="into">Room for the bytes.</param>
    /// <exception cref="NbdException">The server failed to read, broke the protocol, fell silent, or is gone.</exception>
    public void Read(long offset, int length, byte* into)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, MaxRead);
        int most = SingleClusters ? (int)Qcow2Format.ClusterSize : length;
        for (int at = 0; at < length; at += most)
        {
            _into = into + at;
            Do(NbdCommand.Read, Export.CanReadWhole ? NBD_CMD_FLAG_DF : (ushort)0, offset + at, (uint)Math.Min(most, length - at));
        }
    }

    /// <summary>Fills the list with the extents from <paramref name="offset"/> on: at least one, and rarely all.</summary>
    /// <exception cref="NbdException">As for <see cref="Read"/>.</exception>
    public void BlockStatus(long offset, List<NbdExtent> extents)
    {
        extents.Clear();
        if (Export.AllocationContext is null || SingleClusters)
        {
            extents.Add(new NbdExtent(offset, Export.Size - offset, IsZero: false));
            return;
        }
        _extents = extents;
        Do(NbdCommand.BlockStatus, NBD_CMD_FLAG_REQ_ONE, offset, (uint)Math.Min(MaxOverview, Export.Size - offset));
        // Long extents are requested one by one, short ones many at a time.
        if (extents[0].Length >= MaxDetail || extents[0].Length == Export.Size - offset)
            return;
        extents.Clear();
        Do(NbdCommand.BlockStatus, 0, offset, (uint)Math.Min(MaxDetail, Export.Size - offset));
    }

    /// <summary>Reports that a run is no longer needed. A refusal only ends trimming.</summary>
    /// <exception cref="NbdException">The server broke the protocol, fell silent, or is gone.</exception>
    public void Trim(long offset, uint length)
    {
        if (CanTrim)
            Do(NbdCommand.Trim, 0, offset, length);
    }

    /// <summary>The server's message without characters that could disturb a terminal or a log.</summary>
    internal static string Readable(ReadOnlySpan<byte> words) =>
        string.Concat(Encoding.UTF8.GetString(words[..Math.Min(words.Length, 300)]).Select(c => char.IsControl(c) ? ' ' : c)).Trim();

    private void Do(NbdCommand command, ushort flags, long offset, uint length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfZero(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, Export.Size - length);
        (_command, _offset, _length, _received) = (command, offset, length, 0);
        Span<byte> r = stackalloc byte[28];
        BinaryPrimitives.WriteUInt32BigEndian(r, RequestMagic);
        BinaryPrimitives.WriteUInt16BigEndian(r[4..], flags);
        BinaryPrimitives.WriteUInt16BigEndian(r[6..], (ushort)command);
        BinaryPrimitives.WriteUInt64BigEndian(r[8..], ++_cookie);
        BinaryPrimitives.WriteInt64BigEndian(r[16..], offset);
        BinaryPrimitives.WriteUInt32BigEndian(r[24..], length);
        _socket.Send(r);
        while (!Reply()) { }
    }

    /// <summary>Reads one chunk of the reply, or a reply without chunks. True after the last one.</summary>
    private bool Reply()
    {
        Span<byte> magic = _small.AsSpan(0, 4);
        _socket.Receive(magic);
        return BinaryPrimitives.ReadUInt32BigEndian(magic) switch
        {
            StructuredReplyMagic => Chunk(),
            SimpleReplyMagic => SimpleReply(),
            uint other => throw Nonsense($"a reply with magic {other:x8}"),
        };
    }

    private bool Chunk()
    {
        Span<byte> head = _small.AsSpan(0, 16);
        _socket.Receive(head);
        ushort flags = BinaryPrimitives.ReadUInt16BigEndian(head),
            type = BinaryPrimitives.ReadUInt16BigEndian(head[2..]);
        CheckCookie(BinaryPrimitives.ReadUInt64BigEndian(head[4..]));
        uint length = BinaryPrimitives.ReadUInt32BigEndian(head[12..]);
        bool done = (flags & NBD_REPLY_FLAG_DONE) != 0;
        switch (type)
        {
            case NBD_REPLY_TYPE_NONE when length == 0 && done:
                break;
            case NBD_REPLY_TYPE_OFFSET_DATA when _command == NbdCommand.Read && length > 8:
                Data(length - 8);
                break;
            case NBD_REPLY_TYPE_OFFSET_HOLE when _command == NbdCommand.Read && length == 12:
                Hole();
                break;
            case NBD_REPLY_TYPE_BLOCK_STATUS when _command == NbdCommand.BlockStatus && _received == 0:
                Status(length);
                break;
            // An error need not be the last chunk, but after an error of a read or block status the client waits for nothing else.
            case >= NBD_REPLY_TYPE_FLAG_ERROR:
                Error(length);
                break;
            default:
                throw Nonsense($"a chunk of type {type} with {length} bytes");
        }
        if (done && _command != NbdCommand.Trim && _received != _length)
            throw Nonsense($"a reply to {_command} that ends after {_received} of {_length} bytes");
        return done;
    }

    private void Data(uint length)
    {
        Span<byte> offset = stackalloc byte[8];
        _socket.Receive(offset);
        Expect(length, BinaryPrimitives.ReadUInt64BigEndian(offset));
        // SAFETY: Expect has checked that these bytes lie within the request, for which the caller provided room.
        _socket.Receive(new Span<byte>(_into + _received, (int)length));
        _received += length;
    }

    private void Hole()
    {
        Span<byte> body = stackalloc byte[12];
        _socket.Receive(body);
        uint length = BinaryPrimitives.ReadUInt32BigEndian(body[8..]);
        Expect(length, BinaryPrimitives.ReadUInt64BigEndian(body));
        // SAFETY: as above.
        Unsafe.InitBlockUnaligned(_into + _received, 0, length);
        _received += length;
    }

    // The protocol lets a server send the parts in any order. QEMU sends them in ascending order, so no byte can be left out or come twice.
    private void Expect(uint length, ulong offset)
    {
        if (length == 0 || length > _length - _received || offset != (ulong)_offset + _received)
            throw Nonsense($"{length} bytes for offset {offset}, where {_length - _received} for {_offset + _received} were requested");
    }

    private void Status(uint length)
    {
        if (length < 12 || length % 8 != 4 || (length - 4) / 8 > MaxExtents)
            throw Nonsense($"a block status of {length} bytes");
        Span<byte> context = stackalloc byte[4];
        _socket.Receive(context);
        if (BinaryPrimitives.ReadUInt32BigEndian(context) != Export.AllocationContext)
            throw Nonsense("a block status that nobody requested");
        long at = _offset,
            end = _offset + _length;
        for (uint left = length - 4; left > 0; )
        {
            Span<byte> part = _small.AsSpan(0, (int)Math.Min(left, 4096));
            _socket.Receive(part);
            left -= (uint)part.Length;
            for (; part.Length > 0; part = part[8..])
            {
                uint bytes = BinaryPrimitives.ReadUInt32BigEndian(part);
                // Only the last extent may extend past the end of the request.
                if (bytes == 0 || at >= end)
                    throw Nonsense("a block status with an empty extent, or one past the end");
                Append(_extents!, at, Math.Min(bytes, end - at), (BinaryPrimitives.ReadUInt32BigEndian(part[4..]) & _state) != 0);
                at += bytes;
            }
        }
        _received = _length;
    }

    private static void Append(List<NbdExtent> extents, long offset, long length, bool zero)
    {
        if (extents.Count > 0 && extents[^1] is var last && last.IsZero == zero && last.Offset + last.Length == offset)
            extents[^1] = last with { Length = last.Length + length };
        else
            extents.Add(new NbdExtent(offset, length, zero));
    }

    private void Error(uint length)
    {
        if (length < 6 || length > _small.Length)
            throw Nonsense($"an error of {length} bytes");
        Span<byte> body = _small.AsSpan(0, (int)length);
        _socket.Receive(body);
        int words = BinaryPrimitives.ReadUInt16BigEndian(body[4..]);
        if (words > length - 6)
            throw Nonsense("an error whose text is longer than itself");
        Failed(BinaryPrimitives.ReadUInt32BigEndian(body), Readable(body.Slice(6, words)));
    }

    /// <summary>Reads an old-style reply: servers with structured replies still use it if there is nothing to return.</summary>
    private bool SimpleReply()
    {
        Span<byte> rest = _small.AsSpan(0, 12);
        _socket.Receive(rest);
        CheckCookie(BinaryPrimitives.ReadUInt64BigEndian(rest[4..]));
        uint error = BinaryPrimitives.ReadUInt32BigEndian(rest);
        if (error != 0)
            Failed(error, "");
        else if (_command != NbdCommand.Trim)
            throw Nonsense($"a simple reply to {_command}");
        return true;
    }

    private void Failed(uint error, string words)
    {
        if (_command != NbdCommand.Trim)
        {
            throw _socket.Error(
                $"{_command} of {_length} bytes at offset {_offset} failed: "
                    + $"{new LinuxException(words.Length > 0 ? words : "the server says", (int)error).Message}",
                (int)error
            );
        }
        CanTrim = false;
        if (++_received > 1)
            throw Nonsense("one error after another for one request");
    }

    private void CheckCookie(ulong cookie)
    {
        if (cookie != _cookie)
            throw Nonsense($"a reply to request {cookie} while {_cookie} is under way");
    }

    private NbdException Nonsense(string what) => _socket.Error($"the server breaks the protocol: {what}");
}
