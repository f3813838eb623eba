using System.Buffers.Binary;
using System.Text;

namespace Bgsnap.Qemu.Libvirt;

/// <summary>Writes the arguments of libvirt's calls in XDR, RFC 4506. Everything is a multiple of four bytes.</summary>
internal sealed class XdrWriter
{
    private byte[] _buffer = new byte[256];

    /// <summary>Bytes written.</summary>
    internal int Length { get; private set; }

    /// <summary>The bytes written so far.</summary>
    internal Span<byte> Written => _buffer.AsSpan(0, Length);

    internal XdrWriter Number(uint value)
    {
        BinaryPrimitives.WriteUInt32BigEndian(Room(4), value);
        return this;
    }

    /// <summary>Bytes whose count both sides know.</summary>
    internal XdrWriter Fixed(ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(Room(bytes.Length));
        return this;
    }

    internal XdrWriter Text(string text)
    {
        int length = Encoding.UTF8.GetByteCount(text);
        Number((uint)length);
        Encoding.UTF8.GetBytes(text, Room(length));
        return this;
    }

    /// <summary>A pointer: a count of 0 or 1 before the text.</summary>
    internal XdrWriter OptionalText(string? text) => text is null ? Number(0) : Number(1).Text(text);

    private Span<byte> Room(int bytes)
    {
        int padded = (bytes + 3) & ~3;
        if (Length + padded > _buffer.Length)
            Array.Resize(ref _buffer, Math.Max(_buffer.Length * 2, Length + padded));
        Length += padded;
        return _buffer.AsSpan(Length - padded, padded);
    }
}

/// <summary>Reads XDR. The other side is a VM's container, so every length is checked.</summary>
internal ref struct XdrReader(ReadOnlySpan<byte> data)
{
    private ReadOnlySpan<byte> _data = data;

    internal uint Number() => BinaryPrimitives.ReadUInt32BigEndian(Fixed(4));

    internal long Hyper() => BinaryPrimitives.ReadInt64BigEndian(Fixed(8));

    internal ReadOnlySpan<byte> Fixed(int bytes)
    {
        long padded = ((long)bytes + 3) & ~3;
        if (bytes < 0 || padded > _data.Length)
            throw new LibvirtException("libvirt sent a message that is cut off");
        ReadOnlySpan<byte> taken = _data[..bytes];
        _data = _data[(int)padded..];
        return taken;
    }

    internal ReadOnlySpan<byte> Bytes() => Fixed((int)Math.Min(Number(), int.MaxValue));

    internal string Text() => Encoding.UTF8.GetString(Bytes());

    internal string? OptionalText() => Number() == 0 ? null : Text();
}
