using System.ComponentModel;
using System.Net.Sockets;
using System.Text;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>
/// A proxy between the agent and a unix socket of QEMU. A test can make it fall silent or answer slowly while QEMU itself is healthy. It
/// passes descriptors too.
/// </summary>
internal sealed class Relay : IDisposable
{
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly string _server;
    private volatile bool _answersHeld;
    private volatile bool _requestsHeld;
    private volatile string? _lastRequest;
    private volatile string? _firstHeld;
    private volatile bool _ended;

    /// <param name="folder">The path of the relay's own socket.</param>
    /// <param name="server">The socket that it connects to.</param>
    public Relay(string folder, string server)
    {
        _server = server;
        Path = System.IO.Path.Combine(folder, $"relay-{Guid.NewGuid():N}"[..20]);
        _listener.Bind(new UnixDomainSocketEndPoint(Path));
        _listener.Listen(16);
        Run(Accept);
    }

    public string Path { get; }

    /// <summary>The delay of each answer.</summary>
    public TimeSpan Delay { get; set; }

    /// <summary>Holds back all answers from now on, and the requests too if asked.</summary>
    public void FallSilent(bool requestsToo = false) => (_answersHeld, _requestsHeld) = (true, requestsToo);

    /// <summary>Forwards the request that contains this text; after it, holds back requests and answers.</summary>
    public void FallSilentAfter(string request) => _lastRequest = request;

    /// <summary>Holds back the request that contains this text, all later ones, and all answers.</summary>
    public void FallSilentBefore(string request) => _firstHeld = request;

    /// <summary>Delivers what it held back, and forwards again.</summary>
    public void Speak()
    {
        (_lastRequest, _firstHeld) = (null, null);
        (_answersHeld, _requestsHeld) = (false, false);
    }

    public void Dispose()
    {
        _ended = true;
        _listener.Dispose();
    }

    private static void Run(Action work) =>
        _ = Task.Factory.StartNew(work, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    private void Accept()
    {
        try
        {
            while (true)
            {
                var client = _listener.Accept();
                Socket server = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                server.Connect(new UnixDomainSocketEndPoint(_server));
                Conversation talk = new(this, client, server);
                Run(() => talk.Carry(client, server, talk.Request));
                Run(() => talk.Carry(server, client, talk.Answer));
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The test or the server has ended.
        }
    }

    /// <summary>One client with its own connection to the server; when either ends, the relay closes both.</summary>
    private sealed class Conversation(Relay relay, Socket client, Socket server)
    {
        private int _ends;
        private volatile bool _over;

        public void Carry(Socket from, Socket to, Action<string> before)
        {
            var buffer = new byte[64 * 1024];
            try
            {
                while (
                    SocketMessages.HandOn(from.SafeHandle, to.SafeHandle, buffer, n => before(Encoding.Latin1.GetString(buffer, 0, n))) > 0
                ) { }
            }
            catch (Exception e) when (e is Win32Exception or OperationCanceledException or ObjectDisposedException)
            {
                // One side is gone.
            }

            _over = true;
            foreach (var s in (Socket[])[client, server])
            {
                try
                {
                    s.Shutdown(SocketShutdown.Both);
                }
                catch (SocketException)
                {
                    // Gone already.
                }
            }

            if (Interlocked.Increment(ref _ends) == 2)
            {
                client.Dispose();
                server.Dispose();
            }
        }

        public void Request(string text)
        {
            if (relay._firstHeld is { } first && text.Contains(first, StringComparison.Ordinal))
                relay.FallSilent(requestsToo: true);
            Wait(() => relay._requestsHeld);
            if (relay._lastRequest is { } last && text.Contains(last, StringComparison.Ordinal))
                relay.FallSilent(requestsToo: true);
        }

        public void Answer(string text)
        {
            if (relay.Delay > TimeSpan.Zero)
                Thread.Sleep(relay.Delay);
            Wait(() => relay._answersHeld);
        }

        private void Wait(Func<bool> held)
        {
            while (held())
            {
                if (_over || relay._ended)
                    throw new OperationCanceledException();
                Thread.Sleep(5);
            }
        }
    }
}
