using System.Diagnostics;
using Bgsnap.Engine.Disks.Nbd;
using Bgsnap.Linux;
using Bgsnap.NodeAgent.Tests.Store;
using static Bgsnap.NodeAgent.Tests.Disks.FakeNbdServer;

namespace Bgsnap.NodeAgent.Tests.Disks;

public sealed unsafe class NbdClientTests : IDisposable
{
    private const string Export = "agent-disk0";
    private readonly TempDirectory _temp = new();
    private readonly byte[] _content = DiskSamples.RandomDisk(3 << 20, 1);
    private FakeNbdServer? _server;
    private UnixSocket? _socket;

    private string SocketPath => _temp.Sub("nbd.sock");

    public void Dispose()
    {
        _socket?.Dispose();
        _server?.Dispose();
        _temp.Dispose();
    }

    [Fact]
    public void Bytes_and_extents_are_what_the_server_has()
    {
        NbdClient client = Connect(new FakeNbdServer(SocketPath, _content));
        Assert.Equal(new NbdExport(_content.Length, true, true, 1, 32 << 20, 77), client.Export);
        byte[] got = new byte[NbdClient.MaxRead];
        fixed (byte* p = got)
        {
            client.Read(12345, got.Length, p);
            Assert.True(_content.AsSpan(12345, got.Length).SequenceEqual(got));
        }
        List<NbdExtent> extents = [];
        long at = 0;
        while (at < _content.Length)
        {
            client.BlockStatus(at, extents);
            foreach (NbdExtent e in extents)
            {
                Assert.Equal(at, e.Offset);
                if (e.IsZero)
                    Assert.False(_content.AsSpan((int)e.Offset, (int)e.Length).ContainsAnyExcept((byte)0));
                at += e.Length;
            }
        }
        Assert.Equal(_content.Length, at);
        client.Trim(0, 1 << 20);
        Assert.Equal(Trim, _server!.Requests.Last().Type);
        Assert.True(client.CanTrim);
    }

    [Fact]
    public void One_request_is_answered_before_the_next_is_sent_and_each_reply_is_small()
    {
        NbdClient client = Connect(new FakeNbdServer(SocketPath, new byte[64 << 20]) { Granularity = 512 });
        client.BlockStatus(0, []);
        byte[] got = new byte[NbdClient.MaxRead];
        Assert.Throws<ArgumentOutOfRangeException>(() => Read(client, 0, got.Length + 1));
        Read(client, 0, 4096);
        foreach (NbdRequest r in _server!.Requests)
            Assert.True(
                r.Type == BlockStatus
                    ? (r.Flags & 8) != 0 || r.Length <= NbdClient.MaxDetail
                    : r.Length <= NbdClient.MaxRead && (r.Flags & 4) != 0
            );
    }

    [Fact]
    public void A_refused_trim_ends_trimming_and_nothing_else()
    {
        NbdClient client = Connect(new FakeNbdServer(SocketPath, _content) { Answer = r => r.Type == Trim ? Simple(r.Cookie, 22) : null });
        client.Trim(0, 4096);
        Assert.False(client.CanTrim);
        client.Trim(4096, 4096);
        Assert.Single(_server!.Requests);
        Read(client, 0, 4096);
    }

    [Fact]
    public void Without_block_status_all_is_data()
    {
        NbdClient client = Connect(new FakeNbdServer(SocketPath, _content) { TellsAllocation = false });
        List<NbdExtent> extents = [];
        client.BlockStatus(4096, extents);
        Assert.Equal([new NbdExtent(4096, _content.Length - 4096, false)], extents);
    }

    public static TheoryData<string, byte[]> BadHellos =>
        new()
        {
            { "new style", [.. "NBDMAGICIHAVEOPX"u8, 0, 3] },
            { "new style", [.. "HTTP/1.1 400 Bad Reque"u8] },
            { "new style", [.. "NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53"u8, 0, 0] },
            { "fixed new-style", [.. "NBDMAGICIHAVEOPT"u8, 0, 2] },
        };

    [Theory]
    [MemberData(nameof(BadHellos))]
    public void A_server_of_another_kind_is_told_from_nbd(string words, byte[] hello) =>
        Refused(words, () => Connect(new FakeNbdServer(SocketPath, _content) { Hello = hello }));

    public static TheoryData<string, uint, byte[]> BadOptionReplies =>
        new()
        {
            { "structured replies", 8, OptionReply(8, 0x80000001) },
            { "nobody requested", 8, OptionReply(9, 1) },
            { "nobody requested", 8, [.. Be64(0x1234), .. Be32(8), .. Be32(1), .. Be32(0)] },
            { "reply of 4294967295 bytes", 8, [.. Be64(0x0003e889045565a9), .. Be32(8), .. Be32(1), .. Be32(uint.MaxValue)] },
            { "with data", 8, OptionReply(8, 1, 1, 2, 3) },
            { "SET_META_CONTEXT", 10, [.. OptionReply(10, 4, 0, 0, 0, 1, (byte)'x'), .. OptionReply(10, 1)] },
            { "SET_META_CONTEXT", 10, OptionReply(10, 4, 1) },
            { "SET_META_CONTEXT", 10, OptionReply(10, 3, 0, 0, 0, 1) },
            { "no such export", 7, OptionReply(7, 0x80000006) },
            { "go  away", 7, OptionReply(7, 0x80000002, [.. "go\x1b away"u8]) },
            { "no size", 7, OptionReply(7, 1) },
            { "description", 7, OptionReply(7, 3, 0, 0, 1) },
            { "answer to GO", 7, OptionReply(7, 3, 0) },
            { "answer to GO", 7, OptionReply(7, 9, 0, 0) },
            { "a size of", 7, [.. OptionReply(7, 3, [0, 0, .. Be64(ulong.MaxValue), 0, 1]), .. OptionReply(7, 1)] },
            { "blocks of", 7, Blocks(0, 32 << 20) },
            { "blocks of", 7, Blocks(3, 32 << 20) },
            { "blocks of", 7, Blocks(1 << 20, 32 << 20) },
            { "blocks of", 7, Blocks(1, 512) },
            { "no end of replies", 7, [.. Enumerable.Repeat(OptionReply(7, 3, 0, 9), 40).SelectMany(b => b)] },
        };

    [Theory]
    [MemberData(nameof(BadOptionReplies))]
    public void A_handshake_that_breaks_the_protocol_is_refused(string words, uint option, byte[] reply)
    {
        NbdException e = Refused(words, () =>
            Connect(new FakeNbdServer(SocketPath, _content) { Negotiate = (o, right) => o == option ? reply : right })
        );
        Assert.DoesNotContain(e.Message, char.IsControl);
    }

    [Theory]
    [InlineData("magic")]
    [InlineData("wrong cookie")]
    [InlineData("zero cookie")]
    [InlineData("simple")]
    [InlineData("too long")]
    [InlineData("absurd length")]
    [InlineData("too short")]
    [InlineData("wrong offset")]
    [InlineData("twice")]
    [InlineData("no bytes")]
    [InlineData("hole too long")]
    [InlineData("hole of nothing")]
    [InlineData("status")]
    [InlineData("unknown type")]
    [InlineData("none with body")]
    [InlineData("error text")]
    [InlineData("error length")]
    public void A_reply_that_breaks_the_protocol_is_refused_and_writes_nothing_else(string how)
    {
        byte[] half = new byte[2048];
        byte[] Bad(NbdRequest r) =>
            how switch
            {
                "magic" => new byte[64],
                "wrong cookie" => Chunk(r.Cookie + 1, 1, [.. Be64(0), .. new byte[4096]]),
                "zero cookie" => Chunk(0, 1, [.. Be64(0), .. new byte[4096]]),
                "simple" => [.. Simple(r.Cookie, 0), .. new byte[4096]],
                "too long" => Chunk(r.Cookie, 1, [.. Be64(0), .. new byte[4097]]),
                "absurd length" => Chunk(r.Cookie, 1, Be64(0), length: uint.MaxValue),
                "too short" => Chunk(r.Cookie, 1, [.. Be64(0), .. half]),
                "wrong offset" => Chunk(r.Cookie, 1, [.. Be64(4096), .. new byte[4096]]),
                "twice" => [.. Chunk(r.Cookie, 1, [.. Be64(0), .. half], flags: 0), .. Chunk(r.Cookie, 1, [.. Be64(0), .. half])],
                "no bytes" => Chunk(r.Cookie, 1, Be64(0)),
                "hole too long" => Chunk(r.Cookie, 2, [.. Be64(0), .. Be32(uint.MaxValue)]),
                "hole of nothing" => Chunk(r.Cookie, 2, [.. Be64(0), .. Be32(0)]),
                "status" => Chunk(r.Cookie, 5, [.. Be32(77), .. Be32(4096), .. Be32(0)]),
                "unknown type" => Chunk(r.Cookie, 99, []),
                "none with body" => Chunk(r.Cookie, 0, [1]),
                "error text" => Chunk(r.Cookie, 0x8001, [.. Be32(5), .. Be16(65535)]),
                _ => Chunk(r.Cookie, 0x8001, Be32(5), length: uint.MaxValue),
            };
        NbdClient client = Connect(new FakeNbdServer(SocketPath, _content) { Answer = Bad });
        byte[] room = new byte[3 * 4096];
        Array.Fill(room, (byte)0xee);
        NbdException e = Assert.Throws<NbdException>(() =>
        {
            fixed (byte* p = room)
                client.Read(0, 4096, p + 4096);
        });
        Assert.Contains("breaks the protocol", e.Message, StringComparison.Ordinal);
        Assert.Contains(Export, e.Message, StringComparison.Ordinal);
        Assert.False(room.AsSpan(0, 4096).ContainsAnyExcept((byte)0xee));
        Assert.False(room.AsSpan(8192).ContainsAnyExcept((byte)0xee));
    }

    public static TheoryData<byte[], uint> BadStatuses =>
        new()
        {
            { Be32(77), 0 },
            { [.. Be32(77), .. Be32(4096)], 0 },
            { [.. Be32(78), .. Be32(4096), .. Be32(0)], 0 },
            { [.. Be32(77), .. Be32(0), .. Be32(0)], 0 },
            { [.. Be32(77), .. Be32(uint.MaxValue), .. Be32(0), .. Be32(1), .. Be32(0)], 0 },
            { Be32(77), 4 + (8 * 16385) },
            { Be32(77), uint.MaxValue },
        };

    [Theory]
    [MemberData(nameof(BadStatuses))]
    public void A_block_status_that_breaks_the_protocol_is_refused(byte[] body, uint length)
    {
        NbdClient client = Connect(
            new FakeNbdServer(SocketPath, _content) { Answer = r => Chunk(r.Cookie, 5, body, length: length == 0 ? null : length) }
        );
        Refused("breaks the protocol", () => client.BlockStatus(0, []));
    }

    [Fact]
    public void The_servers_error_is_told_with_place_and_number()
    {
        NbdClient client = Connect(
            new FakeNbdServer(SocketPath, _content)
            {
                Answer = r => Chunk(r.Cookie, 0x8002, [.. Be32(13), .. Be16(4), .. "gone"u8, .. Be64(8192)]),
            }
        );
        NbdException e = Refused("offset 8192", () => Read(client, 8192, 4096));
        Assert.Equal(13, e.Errno);
        Assert.Contains("gone", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(10)]
    [InlineData(20)]
    [InlineData(1000)]
    public void A_cut_connection_is_told(int after)
    {
        NbdClient client = Connect(new FakeNbdServer(SocketPath, _content) { CutAfter = after });
        NbdException e = Refused("connection was cut", () => Read(client, 0, 4096));
        Assert.Equal(Errno.EPIPE, e.Errno);
    }

    [Fact]
    public void A_silent_server_is_told_of_in_time()
    {
        NbdClient client = Connect(new FakeNbdServer(SocketPath, _content) { Answer = _ => [] }, TimeSpan.FromMilliseconds(300));
        Refused("has not answered", () => Read(client, 0, 4096));
    }

    [Fact]
    public void Cancelling_ends_waiting_at_once()
    {
        using CancellationTokenSource cancel = new();
        NbdClient client = Connect(new FakeNbdServer(SocketPath, _content) { Answer = _ => [] }, cancel: cancel.Token);
        cancel.CancelAfter(100);
        var watch = Stopwatch.StartNew();
        Assert.ThrowsAny<OperationCanceledException>(() => Read(client, 0, 4096));
        Assert.InRange(watch.Elapsed.TotalSeconds, 0, 10);
    }

    private static byte[] Blocks(uint minimum, uint maximum) =>
        [
            .. OptionReply(7, 3, [0, 0, .. Be64(1 << 20), 0, 1]),
            .. OptionReply(7, 3, [0, 3, .. Be32(minimum), .. Be32(4096), .. Be32(maximum)]),
            .. OptionReply(7, 1),
        ];

    private static void Read(NbdClient client, long offset, int length)
    {
        byte[] room = new byte[length];
        fixed (byte* p = room)
            client.Read(offset, length, p);
    }

    private NbdClient Connect(FakeNbdServer server, TimeSpan? patience = null, CancellationToken cancel = default)
    {
        _server = server;
        _socket = UnixSocket.ConnectTo(SocketPath);
        return NbdClient.Negotiate(_socket, Export, cancel, patience);
    }

    private static NbdException Refused(string words, Action act)
    {
        NbdException e = Assert.Throws<NbdException>(act);
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
        Assert.Contains(Export, e.Message, StringComparison.Ordinal);
        return e;
    }
}
