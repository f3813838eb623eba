using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Net.Sockets;
using System.Text;

namespace Bgsnap.NodeAgent.Tests.Disks;

/// <summary>A request as received.</summary>
internal sealed record NbdRequest(ushort Flags, ushort Type, ulong Cookie, long Offset, uint Length);

/// <summary>An NBD server in this process. It serves a byte array correctly, except where a test replaces its answers.</summary>
internal sealed class FakeNbdServer : IDisposable
{
    public const ushort Read = 0,
        Trim = 4,
        BlockStatus = 7;

    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly ConcurrentBag<Socket> _open = [];
    private readonly byte[] _content;

    public FakeNbdServer(string path, byte[] content)
    {
        (Path, _content) = (path, content);
        _listener.Bind(new UnixDomainSocketEndPoint(path));
        _listener.Listen(16);
        _ = Task.Run(AcceptAsync);
    }

    public string Path { get; }

    /// <summary>The server reports runs of <see cref="Granularity"/> zero bytes as zero.</summary>
    public int Granularity { get; init; } = 4096;

    public bool TellsAllocation { get; init; } = true;

    /// <summary>Replaces an answer: null is the right one, an empty array is silence.</summary>
    public Func<NbdRequest, byte[]?> Answer { get; init; } = _ => null;

    /// <summary>Replaces answers of the handshake: takes option and right answer, returns the answer to send.</summary>
    public Func<uint, byte[], byte[]> Negotiate { get; init; } = (_, right) => right;

    public byte[] Hello { get; init; } = [.. "NBDMAGICIHAVEOPT"u8, 0, 3];

    /// <summary>The server closes the connection after this many bytes of replies to requests.</summary>
    public long CutAfter { get; init; } = long.MaxValue;

    public ConcurrentQueue<NbdRequest> Requests { get; } = new();

    public static byte[] Chunk(ulong cookie, ushort type, byte[] body, ushort flags = 1, uint? length = null) =>
        [.. Be32(0x668e33ef), .. Be16(flags), .. Be16(type), .. Be64(cookie), .. Be32(length ?? (uint)body.Length), .. body];

    public static byte[] Simple(ulong cookie, uint error) => [.. Be32(0x67446698), .. Be32(error), .. Be64(cookie)];

    public static byte[] Be16(int value) => [(byte)(value >> 8), (byte)value];

    public static byte[] Be32(uint value)
    {
        byte[] bytes = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, value);
        return bytes;
    }

    public static byte[] Be64(ulong value)
    {
        byte[] bytes = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, value);
        return bytes;
    }

    public static byte[] OptionReply(uint option, uint type, params byte[] body) =>
        [.. Be64(0x0003e889045565a9), .. Be32(option), .. Be32(type), .. Be32((uint)body.Length), .. body];

    public void Dispose()
    {
        _listener.Dispose();
        foreach (Socket socket in _open)
            socket.Dispose();
    }

    private async Task AcceptAsync()
    {
        while (true)
        {
            Socket socket;
            try
            {
                socket = await _listener.AcceptAsync();
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                return;
            }
            _open.Add(socket);
            new Thread(() => Serve(socket)) { IsBackground = true }.Start();
        }
    }

    private void Serve(Socket socket)
    {
        try
        {
            using NetworkStream stream = new(socket, ownsSocket: false);
            stream.Write(Hello);
            byte[] head = new byte[28];
            stream.ReadExactly(head, 0, 4);
            while (true)
            {
                stream.ReadExactly(head, 0, 16);
                uint option = BinaryPrimitives.ReadUInt32BigEndian(head.AsSpan(8));
                byte[] data = new byte[BinaryPrimitives.ReadUInt32BigEndian(head.AsSpan(12))];
                stream.ReadExactly(data);
                stream.Write(Negotiate(option, Option(option)));
                if (option == 7)
                    break;
            }
            for (long sent = 0; ; )
            {
                stream.ReadExactly(head);
                var request = new NbdRequest(
                    BinaryPrimitives.ReadUInt16BigEndian(head.AsSpan(4)),
                    BinaryPrimitives.ReadUInt16BigEndian(head.AsSpan(6)),
                    BinaryPrimitives.ReadUInt64BigEndian(head.AsSpan(8)),
                    BinaryPrimitives.ReadInt64BigEndian(head.AsSpan(16)),
                    BinaryPrimitives.ReadUInt32BigEndian(head.AsSpan(24))
                );
                Requests.Enqueue(request);
                byte[] reply = Answer(request) ?? Right(request);
                if (sent + reply.Length > CutAfter)
                {
                    stream.Write(reply, 0, (int)(CutAfter - sent));
                    socket.Dispose();
                    return;
                }
                stream.Write(reply);
                sent += reply.Length;
            }
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException or SocketException)
        {
            // The client or the test has ended.
        }
    }

    private byte[] Option(uint option) =>
        option switch
        {
            8 => OptionReply(8, 1),
            10 when TellsAllocation =>
            [
                .. OptionReply(10, 4, [.. Be32(77), .. Encoding.ASCII.GetBytes("base:allocation")]),
                .. OptionReply(10, 1),
            ],
            10 => OptionReply(10, 0x80000001),
            // HAS_FLAGS, SEND_TRIM, SEND_DF, CAN_MULTI_CONN; blocks of 1 to 32 MiB.
            _ =>
            [
                .. OptionReply(7, 3, [0, 0, .. Be64((ulong)_content.Length), .. Be16(1 | 0x20 | 0x80 | 0x100)]),
                .. OptionReply(7, 3, [0, 3, .. Be32(1), .. Be32(4096), .. Be32(32 << 20)]),
                .. OptionReply(7, 1),
            ],
        };

    private byte[] Right(NbdRequest r) =>
        r.Type switch
        {
            Read => Chunk(r.Cookie, 1, [.. Be64((ulong)r.Offset), .. _content.AsSpan((int)r.Offset, (int)r.Length)]),
            BlockStatus => Chunk(r.Cookie, 5, [.. Be32(77), .. Extents(r)]),
            _ => Simple(r.Cookie, 0),
        };

    private byte[] Extents(NbdRequest r)
    {
        var extents = new List<byte>();
        for (long at = r.Offset, end = r.Offset + r.Length; at < end && ((r.Flags & 8) == 0 || extents.Count == 0); )
        {
            bool zero = IsZero(at);
            long from = at;
            for (at = Math.Min(at / Granularity * Granularity + Granularity, end); at < end && IsZero(at) == zero; )
                at = Math.Min(at + Granularity, end);
            extents.AddRange([.. Be32((uint)(at - from)), .. Be32(zero ? 3u : 0)]);
        }
        return [.. extents];
    }

    private bool IsZero(long at)
    {
        int from = (int)(at / Granularity * Granularity);
        return !_content.AsSpan(from, Math.Min(Granularity, _content.Length - from)).ContainsAnyExcept((byte)0);
    }
}
