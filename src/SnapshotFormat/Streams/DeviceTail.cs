using System.Buffers.Binary;

namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>Collects what follows RAM, and splits it when the stream has ended.</summary>
/// <remarks>
/// <code>
///   04 …devices… 00  [ 06 be32 length, JSON ]
/// </code>
/// Sections do not state their length, so only the end of the stream shows where the devices end: it is either the <c>00</c> itself, or
/// JSON whose length, counted back from the end, is preceded by <c>00 06</c>. JSON is text and has no byte below 0x20, and the first byte
/// of its length is below 5, so there is only one place to look.
/// </remarks>
internal sealed class DeviceTail
{
    private const int LargestTail = MigrationFormat.MaxDeviceStateBytes + MigrationFormat.MaxVmDescriptionBytes;
    private const int DescriptionHead = 5;

    private byte[] _bytes = [];
    private int _length;
    private long _origin;

    /// <summary>Whether the first byte of the devices has been reached.</summary>
    public bool Started { get; private set; }

    /// <summary>Starts the tail.</summary>
    /// <param name="position">Offset in the stream at which it begins.</param>
    public void Start(long position)
    {
        Started = true;
        _bytes = new byte[1 << 20];
        DeviceStateFile.WriteHeader(_bytes);
        _length = MigrationFormat.FileHeaderLength;
        _origin = position - _length;
    }

    /// <summary>Adds bytes; takes all of them.</summary>
    public int Append(ReadOnlySpan<byte> input)
    {
        if (input.Length > LargestTail - _length)
            throw new MigrationStreamException(
                $"The device state is larger than {MigrationFormat.MaxDeviceStateBytes} bytes.",
                _origin + LargestTail
            );
        if (input.Length > _bytes.Length - _length)
        {
            long size = Math.Max(_length + (long)input.Length, 2L * _bytes.Length);
            Array.Resize(ref _bytes, (int)Math.Min(size, LargestTail));
        }
        input.CopyTo(_bytes.AsSpan(_length));
        _length += input.Length;
        return input.Length;
    }

    /// <summary>Splits the tail.</summary>
    public (DeviceStateFile DeviceState, VmDescription? Description) Complete()
    {
        ReadOnlySpan<byte> all = _bytes.AsSpan(0, _length);
        int devicesEnd = _length;
        VmDescription? description = null;
        if (TryFindDescription(all, out int head))
        {
            int json = head + DescriptionHead;
            description = VmDescription.Parse(all[json..], _origin + json);
            devicesEnd = head;
        }
        // Copy to the right size: the snapshot keeps the device state, not the description behind it.
        byte[] file = all[..devicesEnd].ToArray();
        return (DeviceStateFile.Parse(file, description, _origin), description);
    }

    private static bool TryFindDescription(ReadOnlySpan<byte> all, out int head)
    {
        head = -1;
        if (all[^1] != (byte)'}')
            return false;
        // The last byte that is not text belongs to the length: between its first byte and its last.
        int noText = all.LastIndexOfAnyExceptInRange((byte)0x20, (byte)0xff);
        for (int candidate = Math.Max(noText - 4, MigrationFormat.FileHeaderLength); candidate <= noText; candidate++)
        {
            int json = candidate + DescriptionHead;
            if (
                json < all.Length
                && all[candidate] == MigrationFormat.VmDescription
                && all[candidate - 1] == MigrationFormat.Eof
                && all[json] == (byte)'{'
                && BinaryPrimitives.ReadUInt32BigEndian(all[(candidate + 1)..]) == (uint)(all.Length - json)
            )
            {
                head = candidate;
                return all.Length - json <= MigrationFormat.MaxVmDescriptionBytes;
            }
        }
        return false;
    }
}
