using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Qemu.GuestAgent;

/// <summary>
/// Talks to <c>qemu-ga</c> in a guest through the unix socket of its virtio-serial channel: docs/interop/qemu-ga in QEMU.
/// </summary>
/// <remarks>
/// <code>
///   us                                                 guest
///   FF {"execute":"guest-sync-delimited",{"id":N}} ──▶ FF makes its parser forget half a command of our predecessor
///   (skip everything up to FF) ◀────────────────────── late answers to that one … FF {"return": N}
///   {"execute":"guest-fsfreeze-freeze"} ─────────────▶ {"return": number of file systems}
/// </code>
/// The guest is not trusted: an answer has a maximum length, and every wait ends.
/// </remarks>
internal sealed unsafe class GuestAgentClient : IGuestAgent
{
    private const byte Delimiter = 0xFF;
    private const int LongestAnswer = 64 << 10;
    private const int SliceMilliseconds = 100;

    private readonly UnixSocket _socket;
    private readonly string _path;
    private readonly byte[] _buffer = new byte[LongestAnswer];
    private int _length;

    private GuestAgentClient(UnixSocket socket, string path) => (_socket, _path) = (socket, path);

    /// <summary>Connects, and checks that the guest agent answers to this connection.</summary>
    /// <param name="path">The socket.</param>
    /// <param name="timeout">Limit for both together.</param>
    /// <param name="cancel">Ends the wait.</param>
    /// <exception cref="GuestAgentException">Nobody listens, another client is connected, or the guest agent does not answer.</exception>
    internal static GuestAgentClient Connect(string path, TimeSpan timeout, CancellationToken cancel)
    {
        long began = Stopwatch.GetTimestamp();
        UnixSocket socket;
        try
        {
            socket = UnixSocket.ConnectTo(path, timeout);
        }
        catch (LinuxException e) when (e.Errno == Errno.EAGAIN)
        {
            throw new GuestAgentException(
                $"nothing accepted the connection to the guest agent's socket {path} within {Seconds(timeout)}: another client is "
                    + "connected to it",
                inner: e
            );
        }
        catch (LinuxException e)
        {
            throw new GuestAgentException($"the guest agent's socket cannot be used: {e.Message}", inner: e);
        }
        GuestAgentClient client = new(socket, path);
        try
        {
            client.Sync(timeout - Stopwatch.GetElapsedTime(began), cancel);
            return client;
        }
        catch
        {
            client.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public int Freeze(TimeSpan timeout, CancellationToken cancel) => Call("guest-fsfreeze-freeze", timeout, cancel).GetInt32Or(0);

    /// <inheritdoc/>
    public int Thaw(TimeSpan timeout) => Call("guest-fsfreeze-thaw", timeout, CancellationToken.None).GetInt32Or(0);

    /// <inheritdoc/>
    public bool IsFrozen(TimeSpan timeout, CancellationToken cancel)
    {
        JsonElement status = Call("guest-fsfreeze-status", timeout, cancel);
        return status.ValueKind == JsonValueKind.String && status.GetString() == "frozen";
    }

    private void Sync(TimeSpan timeout, CancellationToken cancel)
    {
        const string Command = "guest-sync-delimited";
        long id = Random.Shared.NextInt64(1, long.MaxValue);
        Send($"{{\"execute\":\"{Command}\",\"arguments\":{{\"id\":{id.ToString(CultureInfo.InvariantCulture)}}}}}", delimited: true);
        _length = 0;
        long began = Stopwatch.GetTimestamp();
        while (true)
        {
            ReadUntil(Delimiter, began, timeout, Command, keep: false, cancel);
            byte[] line = ReadUntil((byte)'\n', began, timeout, Command, keep: true, cancel);
            // Anything else is an answer to an earlier client.
            if (
                TryParse(line) is { ValueKind: JsonValueKind.Object } answer
                && answer.TryGetProperty("return", out JsonElement value)
                && value.ValueKind == JsonValueKind.Number
                && value.TryGetInt64(out long echoed)
                && echoed == id
            )
            {
                return;
            }
        }
    }

    private JsonElement Call(string command, TimeSpan timeout, CancellationToken cancel)
    {
        long began = Stopwatch.GetTimestamp();
        Send($"{{\"execute\":\"{command}\"}}", delimited: false);
        JsonElement? answer;
        do
        {
            byte[] line = ReadUntil((byte)'\n', began, timeout, command, keep: true, cancel);
            answer = line.AsSpan().Trim(" \r\n\t"u8).IsEmpty
                ? null
                : TryParse(line) ?? throw new GuestAgentException($"the guest agent answered {command} with something that is not JSON");
        } while (answer is null);
        if (answer.Value.ValueKind == JsonValueKind.Object)
        {
            if (answer.Value.TryGetProperty("return", out JsonElement value))
                return value;
            if (answer.Value.TryGetProperty("error", out JsonElement error) && error.ValueKind == JsonValueKind.Object)
                throw new GuestAgentException(
                    $"the guest agent refused {command}: "
                        + $"{(error.TryGetProperty("desc", out JsonElement d) ? d.ToString() : error.ToString())}",
                    refused: true
                );
        }
        throw new GuestAgentException($"the guest agent answered {command} with neither return nor error");
    }

    private void Send(string json, bool delimited)
    {
        byte[] text = Encoding.UTF8.GetBytes(json + "\n");
        try
        {
            _socket.Send(delimited ? [Delimiter, .. text] : text);
        }
        catch (LinuxException e)
        {
            throw new GuestAgentException($"nothing reads from the guest agent's socket {_path}: {e.Message}", inner: e);
        }
    }

    /// <summary>Takes everything up to and including a byte.</summary>
    /// <param name="end">The byte.</param>
    /// <param name="began">When the wait began.</param>
    /// <param name="timeout">How long it may take.</param>
    /// <param name="command">The command whose answer is awaited.</param>
    /// <param name="keep">Return the bytes; if false, they are garbage of any length.</param>
    /// <param name="cancel">Ends the wait.</param>
    private byte[] ReadUntil(byte end, long began, TimeSpan timeout, string command, bool keep, CancellationToken cancel)
    {
        while (true)
        {
            int at = _buffer.AsSpan(0, _length).IndexOf(end);
            if (at >= 0)
            {
                byte[] taken = keep ? _buffer[..(at + 1)] : [];
                Buffer.BlockCopy(_buffer, at + 1, _buffer, 0, _length -= at + 1);
                return taken;
            }
            if (!keep)
                _length = 0;
            if (_length == _buffer.Length)
                throw new GuestAgentException($"the guest agent's answer to {command} is longer than {LongestAnswer} bytes");
            cancel.ThrowIfCancellationRequested();
            TimeSpan left = timeout - Stopwatch.GetElapsedTime(began);
            if (left <= TimeSpan.Zero)
                throw new GuestAgentException($"the guest agent did not answer {command} within {Seconds(timeout)}");
            PollFd poll = new() { Fd = _socket.FileDescriptor, Events = Libc.POLLIN };
            // SAFETY: one element, on our stack.
            _ = Libc.Poll(&poll, 1, (int)Math.Clamp(left.TotalMilliseconds, 1, SliceMilliseconds));
            int got = Receive(_buffer.AsSpan(_length));
            if (got == 0)
                throw new GuestAgentException($"the guest agent's socket {_path} was closed before it answered {command}");
            _length += Math.Max(0, got);
        }
    }

    private int Receive(Span<byte> into)
    {
        try
        {
            return _socket.TryReceive(into);
        }
        catch (LinuxException e)
        {
            throw new GuestAgentException($"the guest agent's socket {_path} broke: {e.Message}", inner: e);
        }
    }

    private static JsonElement? TryParse(byte[] line)
    {
        try
        {
            using JsonDocument document = ForeignJson.Parse(line);
            return document.RootElement.Clone();
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private static string Seconds(TimeSpan time) => $"{Math.Max(0, time.TotalSeconds).ToString("0.###", CultureInfo.InvariantCulture)} s";

    /// <inheritdoc/>
    public void Dispose() => _socket.Dispose();
}

file static class Answer
{
    internal static int GetInt32Or(this JsonElement value, int fallback) =>
        value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out int number) ? number : fallback;
}
