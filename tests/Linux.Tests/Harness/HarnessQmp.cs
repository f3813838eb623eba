using System.Collections.Concurrent;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Bgsnap.Linux.Tests.Harness;

public sealed class QmpErrorException(string command, string kind, string description) : Exception($"{command}: {kind}: {description}")
{
    public string Kind { get; } = kind;
}

/// <summary>One event that QEMU sent.</summary>
public sealed record QmpEvent(string Name, JsonElement Data, long At);

/// <summary>
/// The harness's own QMP connection. It shares no code with the agent's client, so that one cannot hide the other's bugs.
/// </summary>
public sealed class HarnessQmp : IDisposable
{
    private readonly Socket _socket;
    private readonly NetworkStream _stream;
    private readonly ConcurrentDictionary<int, TaskCompletionSource<JsonElement>> _waiting = new();
    private readonly Lock _gate = new();
    private readonly List<QmpEvent> _events = [];
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Exception? _ended;
    private int _lastId;

    private HarnessQmp(Socket socket)
    {
        _socket = socket;
        _stream = new NetworkStream(socket);
    }

    public IReadOnlyList<QmpEvent> Events
    {
        get
        {
            lock (_gate)
                return [.. _events];
        }
    }

    /// <summary>Connects as soon as QEMU listens, and negotiates.</summary>
    public static async Task<HarnessQmp> ConnectAsync(string path, CancellationToken cancellation)
    {
        while (true)
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            try
            {
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellation).ConfigureAwait(false);
                var qmp = new HarnessQmp(socket);
                _ = Task.Run(qmp.ReadAsync, CancellationToken.None);
                await qmp.ExecuteAsync("qmp_capabilities", cancellation: cancellation).ConfigureAwait(false);
                return qmp;
            }
            catch (SocketException)
            {
                socket.Dispose();
                await Task.Delay(20, cancellation).ConfigureAwait(false);
            }
            catch
            {
                socket.Dispose();
                throw;
            }
        }
    }

    /// <summary>Executes a command and returns its "return"; an "error" becomes a <see cref="QmpErrorException"/>.</summary>
    public async Task<JsonElement> ExecuteAsync(string command, JsonObject? arguments = null, CancellationToken cancellation = default)
    {
        var id = Interlocked.Increment(ref _lastId);
        var answer = new TaskCompletionSource<JsonElement>(TaskCreationOptions.RunContinuationsAsynchronously);
        _waiting[id] = answer;
        lock (_gate)
        {
            if (_ended is { } reason)
                throw new IOException($"{command}: the QMP connection has ended.", reason);
        }

        var request = new JsonObject { ["execute"] = command, ["id"] = id };
        if (arguments is not null)
            request["arguments"] = arguments;
        await _stream.WriteAsync(JsonSerializer.SerializeToUtf8Bytes(request), cancellation).ConfigureAwait(false);
        // No command of a test takes longer; a dead QEMU must not hang a test.
        var reply = await answer.Task.WaitAsync(TimeSpan.FromSeconds(60), cancellation).ConfigureAwait(false);
        if (reply.TryGetProperty("error", out var error))
        {
            throw new QmpErrorException(command, error.GetProperty("class").GetString()!, error.GetProperty("desc").GetString()!);
        }

        return reply.GetProperty("return");
    }

    /// <summary>Runs a command of the human monitor and returns its output.</summary>
    public async Task<string> HumanAsync(string commandLine, CancellationToken cancellation = default)
    {
        var arguments = new JsonObject { ["command-line"] = commandLine };
        return (await ExecuteAsync("human-monitor-command", arguments, cancellation).ConfigureAwait(false)).GetString()!;
    }

    /// <summary>QEMU's run state: "running", "paused", "inmigrate", ...</summary>
    public async Task<string> RunStateAsync(CancellationToken cancellation = default) =>
        (await ExecuteAsync("query-status", cancellation: cancellation).ConfigureAwait(false)).GetProperty("status").GetString()!;

    /// <summary>The first event of the name after those counted in <paramref name="after"/>.</summary>
    public async Task<QmpEvent> WaitForEventAsync(string name, TimeSpan timeout, int after = 0)
    {
        using var timer = new CancellationTokenSource(timeout);
        for (var next = after; ; )
        {
            Task changed;
            lock (_gate)
            {
                for (; next < _events.Count; next++)
                {
                    if (_events[next].Name == name)
                        return _events[next];
                }

                if (_ended is { } reason)
                    throw new IOException($"The QMP connection ended before {name}.", reason);
                changed = _changed.Task;
            }

            try
            {
                await changed.WaitAsync(timer.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                throw new TimeoutException($"No {name} from QEMU within {timeout.TotalSeconds} s.");
            }
        }
    }

    public void Dispose()
    {
        _stream.Dispose();
        _socket.Dispose();
    }

    private async Task ReadAsync()
    {
        Exception reason = new EndOfStreamException("QEMU closed the connection.");
        try
        {
            using var reader = new StreamReader(_stream);
            while (await reader.ReadLineAsync().ConfigureAwait(false) is { } line)
                Take(JsonSerializer.Deserialize<JsonElement>(line));
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException or JsonException)
        {
            reason = e;
        }

        lock (_gate)
            _ended = reason;
        Wake();
        foreach (var waiting in _waiting.Values)
            waiting.TrySetException(new IOException("The QMP connection has ended.", reason));
    }

    private void Take(JsonElement message)
    {
        if (message.TryGetProperty("event", out var name))
        {
            var data = message.TryGetProperty("data", out var value) ? value : default;
            lock (_gate)
                _events.Add(new QmpEvent(name.GetString()!, data, System.Diagnostics.Stopwatch.GetTimestamp()));
            Wake();
        }
        else if (message.TryGetProperty("id", out var id) && _waiting.TryRemove(id.GetInt32(), out var answer))
        {
            answer.TrySetResult(message);
        }
    }

    private void Wake()
    {
        TaskCompletionSource changed;
        lock (_gate)
            (changed, _changed) = (_changed, new(TaskCreationOptions.RunContinuationsAsynchronously));
        changed.SetResult();
    }
}
