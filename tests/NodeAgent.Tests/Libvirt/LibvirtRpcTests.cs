using System.Buffers.Binary;
using System.Net.Sockets;
using Bgsnap.Qemu.Libvirt;

namespace Bgsnap.NodeAgent.Tests.Libvirt;

/// <summary>
/// The protocol of libvirt, byte by byte, also with a hostile peer: libvirt runs where a guest that has escaped its VM would.
/// </summary>
public sealed class LibvirtRpcTests : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);
    private readonly string _path = Path.Combine(Path.GetTempPath(), $"bgsnap-libvirt-{Guid.NewGuid():N}");
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);

    public LibvirtRpcTests()
    {
        _listener.Bind(new UnixDomainSocketEndPoint(_path));
        _listener.Listen(1);
    }

    [Fact]
    public async Task A_call_has_libvirts_form_and_its_answer_is_taken()
    {
        using LibvirtRpc rpc = LibvirtRpc.Connect(_path);
        using Socket peer = await _listener.AcceptAsync();
        Task<byte[]> running = Task.Run(() => rpc.Run(LibvirtRpc.Remote, 23, new XdrWriter().Text("abcde"), -1, Patience));

        // Length, program, version, procedure, type, serial, status; a text of five bytes takes twelve.
        Assert.Equal(
            "00000028" + "20008086" + "00000001" + "00000017" + "00000000" + "00000001" + "00000000" + "000000056162636465000000",
            Convert.ToHexString(await ReceiveAsync(peer, 40))
        );
        await peer.SendAsync(Message(LibvirtRpc.Remote, 23, type: 1, serial: 1, status: 0, new XdrWriter().Number(7)));

        Assert.Equal("00000007", Convert.ToHexString(await running));
    }

    [Fact]
    public async Task Events_between_a_call_and_its_answer_are_kept()
    {
        using LibvirtRpc rpc = LibvirtRpc.Connect(_path);
        using Socket peer = await _listener.AcceptAsync();
        uint serial = rpc.Begin(LibvirtRpc.Qemu, 1, new XdrWriter());
        XdrWriter stop = new LibvirtDomain("db", Guid.NewGuid(), 1)
            .Write(new XdrWriter().Number(0))
            .Text("STOP")
            .Number(0)
            .Number(12)
            .Number(345)
            .Number(0);
        byte[] both =
        [
            .. Message(LibvirtRpc.Qemu, 6, 2, 0, 0, stop),
            .. Message(LibvirtRpc.Qemu, 1, 1, serial, 0, new XdrWriter().Text("{}")),
        ];
        byte[]? result = null;
        foreach (byte b in both)
        {
            await peer.SendAsync(new[] { b });
            if (rpc.TryEnd(serial, out byte[] got))
                result = got;
        }

        Assert.Equal("{}", new XdrReader(result).Text());
        Assert.Equal(("STOP", 12_000_345L), (rpc.Events.Find("STOP")!.Name, rpc.Events.Find("STOP")!.Timestamp));
    }

    [Fact]
    public async Task An_error_has_libvirts_words_and_number()
    {
        using LibvirtRpc rpc = LibvirtRpc.Connect(_path);
        using Socket peer = await _listener.AcceptAsync();
        uint serial = rpc.Begin(LibvirtRpc.Remote, 23, new XdrWriter());
        await peer.SendAsync(
            Message(LibvirtRpc.Remote, 23, 1, serial, 1, new XdrWriter().Number(42).Number(10).OptionalText("Domain not found"))
        );

        LibvirtException e = Assert.Throws<LibvirtException>(() => rpc.TryEnd(serial, out _));

        Assert.Equal((42, "Domain not found"), (e.Code, e.Message));
    }

    public static TheoryData<string> Lies =>
        new()
        {
            { "00000004" }, // shorter than a header
            { "7fffffff" }, // longer than any message
            { "48545450" }, // "HTTP"
            // An event with a truncated name.
            { "00000024" + "20008087" + "00000001" + "00000006" + "00000002" + "00000000" + "00000000" + "00000000" + "ffffffff" },
            // An answer that announces an error and contains none.
            { "0000001c" + "20008086" + "00000001" + "00000001" + "00000001" + "00000001" + "00000001" },
            // An answer with descriptors.
            { "00000020" + "20008086" + "00000001" + "00000001" + "00000005" + "00000001" + "00000000" + "00000002" },
            { "" }, // no bytes, then end of stream
        };

    [Theory]
    [MemberData(nameof(Lies))]
    public async Task What_lies_is_given_up(string bytes)
    {
        using LibvirtRpc rpc = LibvirtRpc.Connect(_path);
        using Socket peer = await _listener.AcceptAsync();
        await peer.SendAsync(Convert.FromHexString(bytes));
        peer.Shutdown(SocketShutdown.Send);

        LibvirtException e = Assert.Throws<LibvirtException>(() => rpc.Run(LibvirtRpc.Remote, 1, new XdrWriter(), -1, Patience));

        Assert.Contains("libvirt", e.Message, StringComparison.Ordinal);
    }

    public void Dispose()
    {
        _listener.Dispose();
        File.Delete(_path);
    }

    private static byte[] Message(uint program, uint procedure, uint type, uint serial, uint status, XdrWriter content)
    {
        byte[] message =
        [
            .. new byte[4],
            .. new XdrWriter().Number(program).Number(1).Number(procedure).Number(type).Number(serial).Number(status).Written,
            .. content.Written,
        ];
        BinaryPrimitives.WriteInt32BigEndian(message, message.Length);
        return message;
    }

    private static async Task<byte[]> ReceiveAsync(Socket peer, int count)
    {
        byte[] bytes = new byte[count];
        await using NetworkStream stream = new(peer);
        await stream.ReadExactlyAsync(bytes);
        return bytes;
    }
}
