using System.Net.Sockets;
using System.Text;
using System.Text.Json;

namespace Bgsnap.NodeAgent.Tests.GuestAgent;

/// <summary>
/// A fake guest agent behind a socket: it answers as qemu-ga does, as a test prescribes, or not at all. It serves one client after the
/// other.
/// </summary>
internal sealed class FakeGuestAgent : IDisposable
{
    private readonly Store.TempDirectory _directory = new();
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly Func<string, string?> _answer;
    private readonly Task _serving;

    /// <param name="answer">
    /// Takes the command and returns what to send; null: what qemu-ga sends; "": nothing; <see cref="Close"/>: close the connection.
    /// </param>
    internal FakeGuestAgent(Func<string, string?>? answer = null)
    {
        _answer = answer ?? (_ => null);
        Path = _directory.Sub("agent");
        _listener.Bind(new UnixDomainSocketEndPoint(Path));
        _listener.Listen();
        _serving = Task.Factory.StartNew(Serve, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }

    internal const string Close = "\0";

    internal string Path { get; }

    internal bool Frozen { get; set; }

    /// <summary>The commands in the order in which they arrived.</summary>
    internal List<string> Received { get; } = [];

    internal int CountOf(string command)
    {
        lock (Received)
            return Received.Count(c => c == command);
    }

    public void Dispose()
    {
        _listener.Dispose();
        _serving.Wait();
        _directory.Dispose();
    }

    private void Serve()
    {
        try
        {
            while (true)
            {
                using Socket client = _listener.Accept();
                Talk(client);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The test has ended.
        }
    }

    private void Talk(Socket client)
    {
        List<byte> line = [];
        byte[] one = new byte[1];
        client.ReceiveTimeout = 20_000;
        try
        {
            while (client.Receive(one) == 1)
            {
                if (one[0] == 0xFF)
                    line.Clear();
                else if (one[0] != '\n')
                    line.Add(one[0]);
                else if (!Answer(client, [.. line]))
                    return;
                else
                    line.Clear();
            }
        }
        catch (SocketException)
        {
            // The client has disconnected.
        }
    }

    private bool Answer(Socket client, byte[] request)
    {
        using JsonDocument document = JsonDocument.Parse(request);
        string command = document.RootElement.GetProperty("execute").GetString()!;
        lock (Received)
            Received.Add(command);
        string? answer = _answer(command);
        if (answer == Close)
            return false;
        answer ??= command switch
        {
            "guest-sync-delimited" => $"{{\"return\": {document.RootElement.GetProperty("arguments").GetProperty("id").GetInt64()}}}\n",
            "guest-fsfreeze-freeze" when Frozen =>
                """{"error": {"class": "CommandNotFound", "desc": "Command guest-fsfreeze-freeze has been disabled: the agent is in frozen state"}}"""
                    + "\n",
            "guest-fsfreeze-freeze" => Set(true, 2),
            "guest-fsfreeze-thaw" => Set(false, Frozen ? 2 : 0),
            "guest-fsfreeze-status" => $"{{\"return\": \"{(Frozen ? "frozen" : "thawed")}\"}}\n",
            _ => throw new InvalidOperationException(command),
        };
        if (command == "guest-sync-delimited")
            client.Send([(byte)'{', (byte)'\n', 0xFF]); // the end of an answer to another client comes first
        client.Send(Encoding.UTF8.GetBytes(answer));
        return true;
    }

    private string Set(bool frozen, int number)
    {
        Frozen = frozen;
        return $"{{\"return\": {number}}}\n";
    }
}
