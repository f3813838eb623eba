using System.Buffers.Binary;
using System.Numerics;
using System.Text;
using static Bgsnap.Engine.Disks.Nbd.NbdProtocol;

namespace Bgsnap.Engine.Disks.Nbd;

/// <summary>Everything up to the transmission phase. It happens once, so it may allocate.</summary>
/// <param name="socket">The connection.</param>
/// <param name="export">The export.</param>
/// <param name="context">What block status reports: base:allocation, or a dirty bitmap.</param>
internal sealed class NbdHandshake(NbdSocket socket, string export, string context = NbdProtocol.BaseAllocation)
{
    private const int LargestMinimumBlock = 65536;

    /// <summary>Negotiates structured replies, block status if the server has it, and the export.</summary>
    /// <exception cref="NbdException">The peer is not an NBD server, is too old, or has no such export.</exception>
    public NbdExport Run()
    {
        Greet();
        if (Ask(NBD_OPT_STRUCTURED_REPLY, [], (_, _) => throw Nonsense("an answer to STRUCTURED_REPLY")) is { } refusal)
            throw socket.Error($"the server has no structured replies, which QEMU has had since 2.11: {refusal}");
        return Go(MetaContext());
    }

    private void Greet()
    {
        ReadOnlySpan<byte> hello = Receive(18);
        if (BinaryPrimitives.ReadUInt64BigEndian(hello) != NBDMAGIC || BinaryPrimitives.ReadUInt64BigEndian(hello[8..]) != IHAVEOPT)
            throw socket.Error("the server does not speak NBD in the new style");
        ushort flags = BinaryPrimitives.ReadUInt16BigEndian(hello[16..]);
        if ((flags & NBD_FLAG_FIXED_NEWSTYLE) == 0)
            throw socket.Error("the server does not speak fixed new-style NBD");
        Span<byte> answer = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(answer, (uint)(flags & (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)));
        socket.Send(answer);
    }

    private uint? MetaContext()
    {
        uint? id = null;
        byte[] query = [.. Counted(export), 0, 0, 0, 1, .. Counted(context)];
        string? refusal = Ask(NBD_OPT_SET_META_CONTEXT, query, (type, reply) =>
        {
            if (
                type != NBD_REP_META_CONTEXT
                || reply.Length < 4
                || id is not null
                || !reply.AsSpan(4).SequenceEqual(Encoding.UTF8.GetBytes(context))
            )
                throw Nonsense("an answer to SET_META_CONTEXT");
            id = BinaryPrimitives.ReadUInt32BigEndian(reply);
        });
        return refusal is null ? id : null;
    }

    private NbdExport Go(uint? contextId)
    {
        ulong? size = null;
        ushort flags = 0;
        uint minimum = 1,
            maximum = DefaultMaximumBlock;
        string? refusal = Ask(NBD_OPT_GO, [.. Counted(export), 0, 1, 0, (byte)NBD_INFO_BLOCK_SIZE], (type, reply) =>
        {
            if (type != NBD_REP_INFO || reply.Length < 2)
                throw Nonsense("an answer to GO");
            switch (BinaryPrimitives.ReadUInt16BigEndian(reply))
            {
                case NBD_INFO_EXPORT when reply.Length == 12:
                    size = BinaryPrimitives.ReadUInt64BigEndian(reply.AsSpan(2));
                    flags = BinaryPrimitives.ReadUInt16BigEndian(reply.AsSpan(10));
                    break;
                case NBD_INFO_BLOCK_SIZE when reply.Length == 14:
                    minimum = BinaryPrimitives.ReadUInt32BigEndian(reply.AsSpan(2));
                    maximum = BinaryPrimitives.ReadUInt32BigEndian(reply.AsSpan(10));
                    break;
                case NBD_INFO_EXPORT or NBD_INFO_BLOCK_SIZE:
                    throw Nonsense("an export's description");
                default:
                    break;
            }
        });
        if (refusal is not null)
            throw socket.Error($"the server refuses the export: {refusal}");
        if (size is not { } bytes)
            throw Nonsense("no size of the export");
        if (bytes > long.MaxValue)
            throw Nonsense($"a size of {bytes} bytes");
        if (!BitOperations.IsPow2(minimum) || minimum > LargestMinimumBlock || maximum < LargestMinimumBlock || bytes % minimum != 0)
            throw Nonsense($"blocks of {minimum} to {maximum} bytes in an export of {bytes}");
        bool trim = (flags & (NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY | NBD_FLAG_SEND_TRIM)) == (NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_TRIM);
        return new NbdExport((long)bytes, trim, (flags & NBD_FLAG_SEND_DF) != 0, minimum, maximum, contextId);
    }

    /// <summary>Sends an option and passes on the replies before the last.</summary>
    /// <returns>Null if the server acknowledged it, else the server's message.</returns>
    private string? Ask(uint option, ReadOnlySpan<byte> data, Action<uint, byte[]> reply)
    {
        byte[] message = new byte[16 + data.Length];
        BinaryPrimitives.WriteUInt64BigEndian(message, IHAVEOPT);
        BinaryPrimitives.WriteUInt32BigEndian(message.AsSpan(8), option);
        BinaryPrimitives.WriteUInt32BigEndian(message.AsSpan(12), (uint)data.Length);
        data.CopyTo(message.AsSpan(16));
        socket.Send(message);
        // A server sends only a handful of replies to one option.
        for (int n = 0; n < 32; n++)
        {
            byte[] head = Receive(20);
            if (
                BinaryPrimitives.ReadUInt64BigEndian(head) != OptionReplyMagic
                || BinaryPrimitives.ReadUInt32BigEndian(head.AsSpan(8)) != option
            )
                throw Nonsense("a reply to an option that nobody requested");
            uint type = BinaryPrimitives.ReadUInt32BigEndian(head.AsSpan(12)),
                length = BinaryPrimitives.ReadUInt32BigEndian(head.AsSpan(16));
            if (length > MaxOptionReply)
                throw Nonsense($"a reply of {length} bytes to an option");
            byte[] body = Receive((int)length);
            if ((type & NBD_REP_FLAG_ERROR) != 0)
                return Words(type, body);
            if (type == NBD_REP_ACK)
                return length == 0 ? null : throw Nonsense("an acknowledgement with data");
            reply(type, body);
        }
        throw Nonsense("no end of replies to an option");
    }

    private static string Words(uint type, byte[] body)
    {
        string words = NbdClient.Readable(body);
        return words.Length > 0 ? words
            : type == NBD_REP_ERR_UNKNOWN ? "there is no such export"
            : $"error {type & ~NBD_REP_FLAG_ERROR}";
    }

    private byte[] Receive(int length)
    {
        byte[] bytes = new byte[length];
        socket.Receive(bytes);
        return bytes;
    }

    private static byte[] Counted(string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        byte[] counted = new byte[4 + bytes.Length];
        BinaryPrimitives.WriteUInt32BigEndian(counted, (uint)bytes.Length);
        bytes.CopyTo(counted, 4);
        return counted;
    }

    private NbdException Nonsense(string what) => socket.Error($"the server breaks the protocol: {what}");
}
