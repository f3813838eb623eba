using System.Net.Sockets;
using System.Text;

namespace Bgsnap.NodeAgent.Tests.Qmp;

/// <summary>A fake QMP server that follows a test's script. It serves one client.</summary>
internal sealed class FakeQmpServer : IDisposable
{
    internal const string Greeting =
        """{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}""" + "\r\n";
    internal const string Empty = """{"return": {}}""" + "\r\n";

    private readonly Store.TempDirectory _directory = new();
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly Task _session;
    private Socket? _client;

    /// <param name="script">Talks to the client; when it returns, the server closes the connection.</param>
    internal FakeQmpServer(Action<FakeQmpServer> script)
    {
        Path = _directory.Sub("qmp");
        _listener.Bind(new UnixDomainSocketEndPoint(Path));
        _listener.Listen();
        _session = Task.Factory.StartNew(
            () =>
            {
                using (_client = _listener.Accept())
                    script(this);
            },
            CancellationToken.None,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default
        );
    }

    internal string Path { get; }

    internal string Folder => _directory.Path;

    /// <summary>The commands, as received.</summary>
    internal List<string> Received { get; } = [];

    /// <summary>A server that sends the greeting, grants the capabilities and then follows the script.</summary>
    internal static FakeQmpServer Greeted(Action<FakeQmpServer> script) =>
        new(s =>
        {
            s.Send(Greeting);
            s.ReadCommand();
            s.Send(Empty);
            script(s);
        });

    internal void Send(string text) => SendBytes(Encoding.UTF8.GetBytes(text));

    internal void SendByteByByte(string text)
    {
        foreach (byte b in Encoding.UTF8.GetBytes(text))
        {
            SendBytes([b]);
            Thread.Sleep(1);
        }
    }

    /// <summary>Waits for a line; empty: the client has disconnected.</summary>
    internal string ReadCommand()
    {
        List<byte> line = [];
        byte[] one = new byte[1];
        while (_client!.Receive(one) == 1 && one[0] != '\n')
            line.Add(one[0]);
        Received.Add(Encoding.UTF8.GetString([.. line]));
        return Received[^1];
    }

    /// <summary>Stays silent until the client disconnects.</summary>
    internal void Keep()
    {
        while (ReadCommand().Length > 0) { }
    }

    private void SendBytes(byte[] bytes)
    {
        while (bytes.Length > 0)
            bytes = bytes[_client!.Send(bytes)..];
    }

    public void Dispose()
    {
        _listener.Dispose();
        try
        {
            Assert.True(_session.Wait(TimeSpan.FromSeconds(10)), "the script of the fake server did not end");
        }
        catch (AggregateException e) when (e.InnerException is SocketException)
        {
            // The client disconnected in the middle of the script, as some tests intend.
        }
        _directory.Dispose();
    }
}
