using System.Buffers.Binary;
using System.Diagnostics;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Qemu.Libvirt;

/// <summary>
/// A connection to libvirtd or virtqemud over its unix socket; docs/design/0013-libvirt.md says why we have a client of our own.
/// </summary>
/// <remarks>
/// <code>
///   be32  length of the whole message, these four bytes included
///   be32  program · version · procedure · type · serial · status
///   be32  number of descriptors, in messages with descriptors only
///   …     arguments, result or error, in XDR
/// </code>
/// The descriptors follow the message, each with one byte of its own. Answers carry the serial of their call and may come in any order;
/// events may come at any time.
/// </remarks>
internal sealed unsafe class LibvirtRpc : IDisposable
{
    /// <summary>libvirt's general API (remote_protocol.x).</summary>
    internal const uint Remote = 0x20008086;

    /// <summary>The API that libvirt offers for QEMU only (qemu_protocol.x).</summary>
    internal const uint Qemu = 0x20008087;

    private const uint Call = 0,
        Reply = 1,
        Message = 2,
        CallWithDescriptors = 4,
        ReplyWithDescriptors = 5;
    private const uint Ok = 0;
    private const int HeaderLength = 28,
        MaximumMessage = 16 << 20;
    private const int DomainMonitorEvent = 6,
        MostReads = 1000;
    private static readonly TimeSpan SendLimit = TimeSpan.FromSeconds(10);

    private readonly UnixSocket _socket;
    private readonly QmpEventQueue _events = new();
    private byte[] _buffer = new byte[64 * 1024];
    private int _start,
        _end;
    private uint _serial;

    // The answer to the latest call; a caller that begins another call has given up the one before.
    private byte[]? _answer;

    private LibvirtRpc(UnixSocket socket) => _socket = socket;

    /// <summary>Connects.</summary>
    /// <exception cref="LinuxException">Nobody listens there, or we may not connect.</exception>
    internal static LibvirtRpc Connect(string path) => new(UnixSocket.ConnectTo(path, SendLimit));

    internal int FileDescriptor => _socket.FileDescriptor;

    /// <summary>libvirt runs as root, and serves <c>qemu:///system</c>.</summary>
    internal bool IsRoots => _socket.PeerUid() == 0;

    /// <summary>Events of the domain's monitor that have arrived.</summary>
    internal QmpEventQueue Events => _events;

    /// <summary>Sends a call.</summary>
    /// <returns>Its serial, for <see cref="TryEnd"/>.</returns>
    internal uint Begin(uint program, uint procedure, XdrWriter arguments, int descriptor = -1)
    {
        bool carries = descriptor >= 0;
        _answer = null;
        XdrWriter message = new XdrWriter()
            .Number((uint)(HeaderLength + (carries ? 4 : 0) + arguments.Length))
            .Number(program)
            .Number(1)
            .Number(procedure)
            .Number(carries ? CallWithDescriptors : Call)
            .Number(++_serial)
            .Number(Ok);
        if (carries)
            message.Number(1);
        message.Fixed(arguments.Written);
        try
        {
            _socket.Send(message.Written);
            if (carries)
                _socket.Send([0], descriptor);
        }
        catch (LinuxException e)
        {
            throw new LibvirtException($"libvirt is gone: {e.Message}");
        }
        return _serial;
    }

    /// <summary>Takes the answer to a call, if it has arrived.</summary>
    /// <exception cref="LibvirtException">The call failed, or libvirt is gone.</exception>
    internal bool TryEnd(uint serial, out byte[] result)
    {
        Receive();
        result = [];
        if (serial != _serial || _answer is not { } message)
            return false;
        _answer = null;
        XdrReader reader = new(message);
        _ = reader.Fixed(12);
        uint type = reader.Number();
        _ = reader.Number();
        uint status = reader.Number();
        if (type == ReplyWithDescriptors && reader.Number() != 0)
            throw new LibvirtException("libvirt answered with descriptors that nobody requested");
        if (status != Ok)
        {
            int code = (int)reader.Number();
            _ = reader.Number();
            throw new LibvirtException(reader.OptionalText() ?? $"libvirt's error {code}", code);
        }
        result = message[(HeaderLength - 4 + (type == ReplyWithDescriptors ? 4 : 0))..];
        return true;
    }

    /// <summary>Sends a call and waits for its answer.</summary>
    internal byte[] Run(uint program, uint procedure, XdrWriter arguments, int descriptor, TimeSpan timeout)
    {
        uint serial = Begin(program, procedure, arguments, descriptor);
        long began = Stopwatch.GetTimestamp();
        byte[] result;
        while (!TryEnd(serial, out result))
        {
            if (Stopwatch.GetElapsedTime(began) > timeout)
                throw new LibvirtException($"libvirt did not answer within {timeout.TotalSeconds:0} s");
            PollFd poll = new() { Fd = FileDescriptor, Events = Libc.POLLIN };
            _ = Libc.Poll(&poll, 1, 1000);
        }
        return result;
    }

    /// <summary>Takes what has arrived, without waiting.</summary>
    /// <exception cref="LibvirtException">libvirt is gone.</exception>
    internal void Receive()
    {
        // What arrives faster than it can be read is left for the next call.
        for (int n = 0; n < MostReads; n++)
        {
            while (TryTakeMessage()) { }
            _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
            (_start, _end) = (0, _end - _start);
            if (_end == _buffer.Length)
                Array.Resize(ref _buffer, _buffer.Length * 2);
            int got;
            try
            {
                got = _socket.TryReceive(_buffer.AsSpan(_end));
            }
            catch (LinuxException e)
            {
                throw new LibvirtException($"libvirt is gone: {e.Message}");
            }
            if (got < 0)
                return;
            if (got == 0)
                throw new LibvirtException("libvirt closed the connection");
            _end += got;
        }
    }

    private bool TryTakeMessage()
    {
        ReadOnlySpan<byte> arrived = _buffer.AsSpan(_start, _end - _start);
        if (arrived.Length < 4)
            return false;
        uint length = BinaryPrimitives.ReadUInt32BigEndian(arrived);
        if (length is < HeaderLength or > MaximumMessage)
            throw new LibvirtException(
                $"the program at that socket does not speak libvirt's protocol: it sent a message of {length} bytes"
            );
        if (arrived.Length < length)
            return false;
        ReadOnlySpan<byte> message = arrived[4..(int)length];
        _start += (int)length;
        XdrReader reader = new(message);
        uint program = reader.Number();
        _ = reader.Number();
        uint procedure = reader.Number(),
            type = reader.Number(),
            serial = reader.Number();
        _ = reader.Number();
        if (type is Reply or ReplyWithDescriptors && serial == _serial)
            _answer = message.ToArray();
        else if (type == Message && program == Qemu && procedure == DomainMonitorEvent)
            TakeEvent(ref reader);
        return true;
    }

    private void TakeEvent(ref XdrReader reader)
    {
        _ = reader.Number(); // the registration
        LibvirtDomain.Read(ref reader);
        string name = reader.Text();
        long seconds = reader.Hyper();
        uint microseconds = reader.Number();
        _events.Add(new QmpEvent(name, seconds * 1_000_000 + microseconds, reader.OptionalText() ?? ""), "libvirt");
    }

    /// <inheritdoc/>
    public void Dispose() => _socket.Dispose();
}
