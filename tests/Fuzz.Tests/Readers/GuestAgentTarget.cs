using System.Net.Sockets;
using System.Text;
using Bgsnap.Fuzz.Engine;
using Bgsnap.Qemu.GuestAgent;

namespace Bgsnap.Fuzz.Readers;

/// <summary>
/// What a guest says for its agent. A <c>@</c> of the input stands for the number that the client chose for this conversation.
/// </summary>
internal sealed class GuestAgentTarget : FuzzTarget
{
    // Longer than anything takes: the peer hangs up.
    private static readonly TimeSpan ForEver = TimeSpan.FromMinutes(10);
    private readonly Peer _peer = new(WithNumber);

    internal override string Name => "guest-agent";

    internal override bool IsRefusal(Exception e) => e is GuestAgentException;

    internal override long AllocationLimit(int length) => (1 << 20) + (64L * length);

    internal override void Read(byte[] input)
    {
        _peer.Say(input);
        using GuestAgentClient agent = GuestAgentClient.Connect(_peer.Path, ForEver, CancellationToken.None);
        _ = agent.Freeze(ForEver, CancellationToken.None);
        _ = agent.IsFrozen(ForEver, CancellationToken.None);
        _ = agent.Thaw(ForEver);
    }

    private static void WithNumber(Socket socket, byte[] input)
    {
        byte[] said = new byte[256];
        int length = socket.Receive(said);
        string number = string.Concat(Encoding.Latin1.GetString(said, 0, length).Split("\"id\":")[^1].TakeWhile(char.IsAsciiDigit));
        socket.Send([.. input.SelectMany(b => b == (byte)'@' ? Encoding.ASCII.GetBytes(number) : [b])]);
    }

    internal override IReadOnlyList<byte[]> Words { get; } =
    [
        [0xff],
        [(byte)'@'],
        [.. "\"frozen\""u8],
        [.. "{\"return\": @}\n"u8],
        .. Peer.JsonWords,
    ];

    internal override IEnumerable<byte[]> Samples() =>
        [
            [0xff, .. "{\"return\": @}\n{\"return\": 2}\n{\"return\": \"frozen\"}\n{\"return\": 2}\n"u8],
            [
                .. "{\"return\": 7}\n"u8,
                0xff,
                .. "{\"return\": 1}\n"u8,
                0xff,
                .. "{\"return\": @}\r\n\r\n{\"error\": {\"class\": \"GenericError\", \"desc\": \"the command is disabled\"}}\n"u8,
            ],
            [0xff, .. "{\"return\": @}\n{\"return\": 2.5}\n{\"return\": \"thawed\"}\n{\"return\": []}\n"u8],
        ];

    protected override void CleanUp() => _peer.Dispose();
}
