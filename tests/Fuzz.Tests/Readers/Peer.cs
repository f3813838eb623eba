using System.Net.Sockets;
using System.Text;

namespace Bgsnap.Fuzz.Readers;

/// <summary>
/// The other end of a unix socket, which sends the input to every client, whatever the client asks, and hangs up. So every wait of the
/// reader ends.
/// </summary>
internal sealed class Peer : IDisposable
{
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly Action<Socket, byte[]> _speak;
    private readonly Thread _thread;
    private volatile byte[] _input = [];

    /// <param name="speak">Speaks with the other side until the input is said; null: says it at once.</param>
    internal Peer(Action<Socket, byte[]>? speak = null)
    {
        _speak = speak ?? ((socket, input) => socket.Send(input));
        Path = System.IO.Path.Join(System.IO.Path.GetTempPath(), $"bgsnap-fuzz-{Guid.NewGuid():N}");
        _listener.Bind(new UnixDomainSocketEndPoint(Path));
        _listener.Listen(4);
        _thread = new Thread(Serve) { IsBackground = true, Name = "peer" };
        _thread.Start();
    }

    /// <summary>Where it listens.</summary>
    internal string Path { get; }

    /// <summary>What the next client receives.</summary>
    internal void Say(byte[] input) => _input = input;

    private void Serve()
    {
        byte[] rest = new byte[4096];
        while (true)
        {
            try
            {
                using Socket socket = _listener.Accept();
                _speak(socket, _input);
                socket.Shutdown(SocketShutdown.Send);
                while (socket.Receive(rest) > 0) { }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                if (e is ObjectDisposedException || !_listener.IsBound)
                    return;
                if (
                    e is SocketException
                    {
                        SocketErrorCode: SocketError.OperationAborted or SocketError.Interrupted or SocketError.InvalidArgument
                    }
                )
                    return;
            }
        }
    }

    /// <summary>Pieces of JSON that mutations put in.</summary>
    internal static IReadOnlyList<byte[]> JsonWords { get; } =
    [
        .. new[]
        {
            "null",
            "{}",
            "[]",
            "\"\"",
            "\"\\ud800\"",
            "true",
            "false",
            "-1",
            "1e400",
            "\"return\":",
            "\"error\":",
            "\"event\":",
            "\"timestamp\":",
            "\"data\":",
            "\"id\":",
            "\"class\":",
            "\"desc\":",
            "\r\n",
            "\n",
            "[[[[[[[[[[[[[[[[[[[[",
            "{\"a\":",
            "\u00ff",
            "{\"return\":{}}\n",
            "{\"event\":\"STOP\",\"timestamp\":{\"seconds\":1,\"microseconds\":2}}\n",
            "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"}}\n",
            "\"seconds\":9223372036854775807",
            "18446744073709551616",
        }.Select(Encoding.UTF8.GetBytes),
    ];

    /// <inheritdoc/>
    public void Dispose()
    {
        _listener.Dispose();
        _thread.Join();
        File.Delete(Path);
    }
}
