using System.Buffers;
using System.Diagnostics;
using System.Text;
using System.Text.Json;
using Bgsnap.Linux;

namespace Bgsnap.Qemu.Qmp;

/// <summary>
/// A client of one QMP socket (docs/interop/qmp-spec in QEMU): one command at a time, events kept in order.
/// </summary>
/// <remarks>Belongs to one thread. Reads never block longer than asked, so that a hung QEMU cannot hang us.</remarks>
public sealed unsafe class QmpClient : IQmpMonitor
{
    /// <summary>How long a command may take unless the caller sets another limit.</summary>
    public static readonly TimeSpan DefaultTimeout = TimeSpan.FromSeconds(20);

    private static readonly TimeSpan SendLimit = TimeSpan.FromSeconds(10);

    // The longest message of any QEMU is some hundred KiB.
    private const int MaximumMessage = 16 << 20;

    // Short: QEMU's monitor reads byte by byte, and the guest pays microseconds for what it reads in a stop window.
    private static readonly string OwnId = "bgsnap-" + Guid.NewGuid().ToString("N")[..12];
    private static long _lastId;
    private readonly UnixSocket _socket;
    private readonly string _path;
    private readonly QmpEventQueue _events = new();
    private byte[] _buffer = new byte[64 * 1024];
    private readonly JsonObjectScanner _scanner = new();
    private int _start;
    private int _scanned;
    private int _end;

    private QmpClient(UnixSocket socket, string path) => (_socket, _path) = (socket, path);

    /// <summary>Connects and leaves the negotiation mode.</summary>
    /// <param name="path">Path of the unix socket.</param>
    /// <exception cref="QmpException">Nobody listens there, or the listener does not speak QMP or serves another client at the
    /// moment.</exception>
    public static QmpClient Connect(string path) => Negotiate(Reach(path), path);

    /// <summary>Connects without sending anything: the peer's process is known then, whether it can answer or not.</summary>
    /// <exception cref="QmpException">Nobody listens there.</exception>
    internal static UnixSocket Reach(string path)
    {
        try
        {
            // A QEMU that accepts no connection, or reads nothing, must not block us.
            return UnixSocket.ConnectTo(path, SendLimit);
        }
        catch (LinuxException e)
        {
            throw new QmpException($"QEMU cannot be reached: {e.Message}");
        }
    }

    /// <summary>Leaves the negotiation mode of a connection, which the client owns from now on.</summary>
    /// <inheritdoc cref="Connect(string)"/>
    internal static QmpClient Negotiate(UnixSocket socket, string path)
    {
        QmpClient client = new(socket, path);
        try
        {
            JsonDocument greeting = client.ReadGreeting();
            using (greeting)
            {
                client.QemuVersion = ReadVersion(greeting.RootElement)
                    ?? throw new QmpException($"{path} does not speak QMP: its first message is not QEMU's greeting");
            }
            client.Execute("qmp_capabilities").Dispose();
            return client;
        }
        catch
        {
            client.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public Version QemuVersion { get; private set; } = new();

    /// <inheritdoc/>
    public int PeerPid => _socket.PeerPid();

    /// <inheritdoc/>
    public int FileDescriptor => _socket.FileDescriptor;

    /// <inheritdoc/>
    public bool TakesWholeBatches => true;

    /// <inheritdoc/>
    public QmpAnswer Execute(string command, string arguments = "", int descriptor = -1, TimeSpan? timeout = null)
    {
        // An id for each command: the answer to a command that timed out may still arrive.
        string id = NextId();
        SendPrepared(Prepare(command, arguments, id), descriptor);
        long deadline = Deadline(timeout ?? DefaultTimeout);
        while (true)
        {
            JsonDocument message = ReadMessage(command, deadline);
            if (TakeEvent(message))
                continue;
            if (IsAnswerTo(message, id))
                return Checked(message, command);
            message.Dispose();
            if (Stopwatch.GetTimestamp() > deadline)
                throw NoAnswer(command);
        }
    }

    /// <inheritdoc/>
    public void Resume() => Execute("cont").Dispose();

    /// <inheritdoc/>
    public void Send(QmpBatch batch, int descriptor = -1)
    {
        ArgumentNullException.ThrowIfNull(batch);
        SendPrepared(batch.Bytes, descriptor);
    }

    /// <inheritdoc/>
    public QmpAnswer? TryReadAnswer(QmpBatch batch)
    {
        ArgumentNullException.ThrowIfNull(batch);
        return TryReadAnswer(batch.Unanswered().Name);
    }

    /// <summary>Sends a command without waiting for its answer; take it with <see cref="TryReadAnswer(string)"/>.</summary>
    public void Send(string command, string arguments = "", int descriptor = -1) => SendPrepared(Prepare(command, arguments), descriptor);

    /// <summary>The bytes of a command, for <see cref="SendPrepared"/> when every microsecond counts.</summary>
    /// <remarks>With an id of this process: the answer to a command of a client that died goes to the next client.</remarks>
    public static byte[] Prepare(string command, string arguments = "") => Prepare(command, arguments, NextId());

    private static byte[] Prepare(string command, string arguments, string id) =>
        Encoding.UTF8.GetBytes(
            arguments.Length == 0
                ? $"{{\"execute\":\"{command}\",\"id\":\"{id}\"}}\n"
                : $"{{\"execute\":\"{command}\",\"id\":\"{id}\",\"arguments\":{arguments}}}\n"
        );

    private static string NextId() => $"{OwnId}.{Interlocked.Increment(ref _lastId)}";

    private static bool IsAnswerTo(JsonDocument message, string id) =>
        !message.RootElement.TryGetProperty("id", out JsonElement given) || given.ValueEquals(id);

    /// <summary>The bytes of a command without an id, as short as possible.</summary>
    public static byte[] PrepareWithoutId(string command, string arguments = "") =>
        Encoding.UTF8.GetBytes(
            arguments.Length == 0 ? $"{{\"execute\":\"{command}\"}}\n" : $"{{\"execute\":\"{command}\",\"arguments\":{arguments}}}\n"
        );

    /// <summary>Sends bytes made by <see cref="Prepare(string, string)"/>.</summary>
    public void SendPrepared(ReadOnlySpan<byte> bytes, int descriptor = -1)
    {
        try
        {
            _socket.Send(bytes, descriptor);
        }
        catch (LinuxException e)
        {
            throw new QmpException($"QEMU behind {_path} is gone ({e.Message})");
        }
    }

    /// <summary>Takes what has arrived, without waiting.</summary>
    /// <returns>The answer to the last command sent; null: it has not arrived yet.</returns>
    /// <exception cref="QmpException">The command failed, or QEMU is gone.</exception>
    public QmpAnswer? TryReadAnswer(string command)
    {
        while (true)
        {
            if (!TryParse(out JsonDocument? message))
            {
                if (!Receive())
                    return null;
                continue;
            }
            if (!TakeEvent(message!))
                return Checked(message!, command);
        }
    }

    /// <inheritdoc/>
    public string? DomainXml() => null;

    /// <inheritdoc/>
    public IReadOnlyList<QmpEvent> TakeEvents(bool read = true)
    {
        // What arrives faster than it can be read is left for the next call.
        for (int n = 0; read && n < QmpEventQueue.MostEvents; n++)
        {
            if (TryParse(out JsonDocument? message))
            {
                if (!TakeEvent(message!))
                    message!.Dispose();
                continue;
            }
            if (!Receive())
                break;
        }
        return _events.TakeAll();
    }

    /// <summary>Waits for an event by name; other events stay in the queue.</summary>
    /// <returns>The event; null: it did not come in time.</returns>
    public QmpEvent? WaitForEvent(string name, TimeSpan timeout)
    {
        long deadline = Deadline(timeout);
        while (true)
        {
            if (_events.Find(name) is { } e)
                return e;
            if (TryParse(out JsonDocument? message))
            {
                if (!TakeEvent(message!))
                    message!.Dispose();
            }
            else if (!Receive() && !WaitReadable(deadline))
            {
                return null;
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _socket.Dispose();

    private JsonDocument ReadGreeting()
    {
        long deadline = Deadline(TimeSpan.FromSeconds(5));
        while (true)
        {
            if (TryParse(out JsonDocument? message))
                return message!;
            if (!Receive() && !WaitReadable(deadline))
                throw new QmpException(
                    $"{_path} gave no QMP greeting within 5 s: it is not a QMP socket, or another client is connected to it"
                );
        }
    }

    private static Version? ReadVersion(JsonElement greeting)
    {
        try
        {
            JsonElement version = greeting.GetProperty("QMP").GetProperty("version").GetProperty("qemu");
            return new Version(
                version.GetProperty("major").GetInt32(),
                version.GetProperty("minor").GetInt32(),
                version.GetProperty("micro").GetInt32()
            );
        }
        catch (Exception e) when (e is KeyNotFoundException or InvalidOperationException or FormatException or ArgumentException)
        {
            return null;
        }
    }

    private JsonDocument ReadMessage(string command, long deadline)
    {
        for (bool late = false; ; )
        {
            if (TryParse(out JsonDocument? message))
                return message!;
            // A peer that sends other messages without end does not answer either. What has arrived when the time is over is still read.
            if (late)
                throw NoAnswer(command);
            late = Stopwatch.GetTimestamp() > deadline;
            if (!Receive() && !WaitReadable(deadline))
                throw NoAnswer(command);
        }
    }

    private QmpException NoAnswer(string command) => new($"QEMU behind {_path} did not answer {command} in time") { TimedOut = true };

    private bool TryParse(out JsonDocument? message)
    {
        message = null;
        while (TryTakeObject(out byte[] text))
        {
            try
            {
                message = QmpMessage.Parse(text);
            }
            catch (JsonException)
            {
                throw NotQmp();
            }
            if (!IsForAnother(message))
                return true;
            message.Dispose();
            message = null;
        }
        return false;
    }

    /// <summary>Takes one message out of the buffer as a copy, because the document outlives the buffer's content.</summary>
    private bool TryTakeObject(out byte[] text)
    {
        text = [];
        bool whole;
        int length;
        try
        {
            whole = _scanner.TryFindEnd(_buffer.AsSpan(_scanned, _end - _scanned), out length);
        }
        catch (FormatException)
        {
            throw NotQmp();
        }
        _scanned += length;
        if (whole)
        {
            text = _buffer[_start.._scanned];
            _start = _scanned;
        }
        else if (!_scanner.IsInside)
        {
            _start = _scanned; // white space between two messages
        }
        return whole;
    }

    private QmpException NotQmp() => new($"{_path} does not speak QMP: it sent what is not JSON");

    /// <summary>Whether this answers a command that another client sent before it disconnected.</summary>
    private static bool IsForAnother(JsonDocument message) =>
        message.RootElement.ValueKind == JsonValueKind.Object
        && message.RootElement.TryGetProperty("id", out JsonElement id)
        && !(id.ValueKind == JsonValueKind.String && id.GetString()!.StartsWith(OwnId, StringComparison.Ordinal));

    private bool Receive()
    {
        if (_start > 0)
        {
            _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
            (_start, _scanned, _end) = (0, _scanned - _start, _end - _start);
        }
        if (_end == _buffer.Length)
        {
            if (_buffer.Length >= MaximumMessage)
                throw new QmpException($"{_path} sent a message of more than {MaximumMessage} bytes") { Floods = true };
            Array.Resize(ref _buffer, _buffer.Length * 2);
        }
        int got;
        try
        {
            got = _socket.TryReceive(_buffer.AsSpan(_end));
        }
        catch (LinuxException e)
        {
            throw new QmpException($"QEMU behind {_path} is gone ({e.Message})");
        }
        if (got == 0)
            throw new QmpException($"QEMU behind {_path} closed the connection: it has ended");
        if (got < 0)
            return false;
        _end += got;
        return true;
    }

    private bool WaitReadable(long deadline)
    {
        long left = (deadline - Stopwatch.GetTimestamp()) * 1000 / Stopwatch.Frequency;
        if (left <= 0)
            return false;
        PollFd p = new() { Fd = _socket.FileDescriptor, Events = Libc.POLLIN };
        return Libc.Poll(&p, 1, (int)Math.Min(left + 1, int.MaxValue)) != 0;
    }

    private bool TakeEvent(JsonDocument message)
    {
        if (!message.RootElement.TryGetProperty("event", out JsonElement name))
            return false;
        JsonElement time = message.RootElement.GetProperty("timestamp");
        long stamp = time.GetProperty("seconds").GetInt64() * 1_000_000 + time.GetProperty("microseconds").GetInt64();
        string data = message.RootElement.TryGetProperty("data", out JsonElement d) ? d.GetRawText() : "";
        _events.Add(new QmpEvent(name.GetString() ?? "", stamp, data), $"QEMU behind {_path}");
        message.Dispose();
        return true;
    }

    /// <summary>Throws the error that an answer reports.</summary>
    internal static QmpAnswer Checked(JsonDocument message, string command)
    {
        if (!message.RootElement.TryGetProperty("error", out JsonElement error))
            return new QmpAnswer(message, command);
        using (message)
        {
            throw new QmpException($"{command}: {error.GetProperty("desc").GetString()}", error.GetProperty("class").GetString());
        }
    }

    private static long Deadline(TimeSpan timeout) => Stopwatch.GetTimestamp() + (long)(timeout.TotalSeconds * Stopwatch.Frequency);
}
