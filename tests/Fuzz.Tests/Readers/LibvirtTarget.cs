using System.Buffers.Binary;
using System.Net.Sockets;
using Bgsnap.Fuzz.Engine;
using Bgsnap.Linux;
using Bgsnap.Qemu.GuestAgent;
using Bgsnap.Qemu.Libvirt;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Fuzz.Readers;

/// <summary>What a libvirt says: answers, errors, events, in XDR.</summary>
internal sealed class LibvirtTarget : FuzzTarget
{
    private readonly Peer _peer;

    internal LibvirtTarget() => _peer = new Peer(Answer);

    internal override string Name => "libvirt";

    // Most of them wait for the end of a conversation.
    internal override int Mutations => 1000;

    // QmpException: it sends events without an end.
    internal override bool IsRefusal(Exception e) => e is LibvirtException or QmpException;

    internal override long AllocationLimit(int length) => (1 << 20) + (64L * length);

    internal override void Read(byte[] input)
    {
        _peer.Say(input);
        using LibvirtConnection connection = LibvirtConnection.Open(new LibvirtSocket(null, [_peer.Path], "qemu:///system"), "db");
        Promise(connection.Domain.Id >= 0, "a domain that does not run");
        byte[] result = connection.Rpc.Run(
            LibvirtRpc.Qemu,
            1,
            connection.Domain.Write(new XdrWriter()).Text("{}").Number(0),
            -1,
            TimeSpan.FromMinutes(10)
        );
        XdrReader reader = new(result);
        _ = reader.OptionalText();
    }

    // One message for each call, and the events before it. A call that has got no answer waits: then the end comes.
    private void Answer(Socket socket, byte[] input)
    {
        byte[] call = new byte[4096];
        ReadOnlySpan<byte> rest = input;
        while (rest.Length > 0 && socket.Poll(Patience, SelectMode.SelectRead) && socket.Receive(call) > 0)
        {
            bool isEvent;
            do
            {
                uint stated = rest.Length >= 4 ? BinaryPrimitives.ReadUInt32BigEndian(rest) : uint.MaxValue;
                int length = (int)Math.Clamp(stated, 4, (uint)Math.Max(4, rest.Length));
                length = Math.Min(length, rest.Length);
                isEvent = rest.Length >= 20 && rest[19] == 2;
                socket.Send(rest[..length]);
                rest = rest[length..];
            } while (isEvent && rest.Length > 0);
        }
        _ = socket.Poll(Patience, SelectMode.SelectRead);
    }

    internal override IReadOnlyList<byte[]> Words { get; } =
    [
        [0, 0, 0, 0x1c],
        [0x20, 0, 0x80, 0x86],
        [0x20, 0, 0x80, 0x87],
        [0, 0, 0, 1],
        [0, 0, 0, 2],
        [0, 0, 0, 5],
        [0xff, 0xff, 0xff, 0xff],
        [0x7f, 0xff, 0xff, 0xff],
        Event("STOP", 1, 2, null),
    ];

    internal override IEnumerable<byte[]> Samples()
    {
        LibvirtDomain domain = new("db", new Guid("00112233-4455-6677-8899-aabbccddeeff"), 7);
        byte[] opened =
        [
            .. Message(LibvirtRpc.Remote, 66, 1, 1, 0, new XdrWriter().Number(0)),
            .. Message(LibvirtRpc.Remote, 1, 1, 2, 0, new XdrWriter()),
            .. Message(LibvirtRpc.Remote, 23, 1, 3, 0, domain.Write(new XdrWriter())),
            .. Message(LibvirtRpc.Qemu, 4, 1, 4, 0, new XdrWriter().Number(1)),
        ];
        yield return
        [
            .. opened,
            .. Event("RESUME", 12, 345, "{\"a\":1}"),
            .. Message(LibvirtRpc.Qemu, 1, 1, 5, 0, new XdrWriter().OptionalText("{\"return\":{}}")),
        ];
        yield return
        [
            .. opened,
            .. Message(LibvirtRpc.Qemu, 1, 1, 5, 1, new XdrWriter().Number(1).Number(10).OptionalText("no answer").Number(2)),
        ];
        yield return [.. opened[..32], .. Message(LibvirtRpc.Remote, 1, 1, 2, 1, new XdrWriter().Number(42).Number(10).OptionalText(null))];
    }

    private static byte[] Event(string name, long seconds, uint microseconds, string? data) =>
        Message(
            LibvirtRpc.Qemu,
            6,
            2,
            0,
            0,
            new LibvirtDomain("db", Guid.Empty, 7)
                .Write(new XdrWriter().Number(0))
                .Text(name)
                .Number((uint)(seconds >> 32))
                .Number((uint)seconds)
                .Number(microseconds)
                .OptionalText(data)
        );

    private static byte[] Message(uint program, uint procedure, uint type, uint serial, uint status, XdrWriter body) =>
        [
            .. new XdrWriter()
                .Number((uint)(28 + body.Length))
                .Number(program)
                .Number(1)
                .Number(procedure)
                .Number(type)
                .Number(serial)
                .Number(status)
                .Written,
            .. body.Written,
        ];

    protected override void CleanUp() => _peer.Dispose();
}

/// <summary>XDR by itself: the first bytes say what is read.</summary>
internal sealed class XdrTarget : FuzzTarget
{
    internal override string Name => "xdr";

    internal override bool IsRefusal(Exception e) => e is LibvirtException;

    internal override void Read(byte[] input)
    {
        if (input.Length < 8)
            return;
        XdrReader reader = new(input.AsSpan(8));
        for (int i = 0; i < 8; i++)
        {
            switch (input[i] % 6)
            {
                case 0:
                    _ = reader.Number();
                    break;
                case 1:
                    _ = reader.Hyper();
                    break;
                case 2:
                    Promise(reader.Fixed(input[i]).Length == input[i], "another number of bytes than was asked for");
                    break;
                case 3:
                    Promise(reader.Bytes().Length <= input.Length, "more bytes than there are");
                    break;
                case 4:
                    _ = reader.Text();
                    break;
                default:
                    _ = reader.OptionalText();
                    break;
            }
        }
    }

    internal override IReadOnlyList<byte[]> Words { get; } =
    [
        [0xff, 0xff, 0xff, 0xff],
        [0x7f, 0xff, 0xff, 0xff],
        [0x7f, 0xff, 0xff, 0xfd],
        [0, 0, 0, 1],
    ];

    internal override IEnumerable<byte[]> Samples() =>
        [
            [
                0,
                1,
                2,
                3,
                4,
                5,
                5,
                0,
                .. new XdrWriter()
                    .Number(1)
                    .Number(0)
                    .Number(2)
                    .Fixed([1, 2])
                    .Text("abc")
                    .Text("text")
                    .OptionalText("x")
                    .OptionalText(null)
                    .Number(9)
                    .Written,
            ],
        ];
}
