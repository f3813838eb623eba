using System.Buffers.Binary;
using System.Globalization;
using System.Text;

namespace Bgsnap.Fuzz.Engine;

/// <summary>Makes new inputs of known ones: flips, extreme numbers, cuts, copies, and parts of other inputs.</summary>
internal sealed class Mutator(Prng random, FuzzTarget target)
{
    private static readonly ulong[] Extremes =
    [
        0,
        1,
        2,
        3,
        4,
        7,
        8,
        15,
        16,
        31,
        32,
        63,
        64,
        127,
        128,
        255,
        256,
        511,
        512,
        4095,
        4096,
        4097,
        65535,
        65536,
        65537,
        1 << 20,
        (1 << 24) - 1,
        int.MaxValue - 1,
        int.MaxValue,
        1UL << 31,
        uint.MaxValue - 1,
        uint.MaxValue,
        1UL << 32,
        (1UL << 44) - 4096,
        1UL << 44,
        1UL << 48,
        1UL << 52,
        long.MaxValue - 4096,
        long.MaxValue,
        1UL << 63,
        ulong.MaxValue - 4095,
        ulong.MaxValue,
    ];

    private static readonly string[] Numbers =
    [
        "0",
        "-1",
        "1",
        "1e9",
        "1.5",
        "2147483647",
        "2147483648",
        "-2147483649",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "1e400",
        "00",
        "",
    ];

    /// <summary>A mutation of <paramref name="input"/>; <paramref name="other"/> lends parts.</summary>
    internal byte[] Mutate(byte[] input, byte[] other)
    {
        List<byte> bytes = [.. input];
        for (int n = 1 << random.Below(4); n > 0; n--)
            Step(bytes, other);
        if (bytes.Count > target.LargestInput)
            bytes.RemoveRange(target.LargestInput, bytes.Count - target.LargestInput);
        // Once in a while a wrong checksum stays wrong.
        return random.OneIn(12) ? [.. bytes] : target.Repair([.. bytes], random);
    }

    private void Step(List<byte> bytes, byte[] other)
    {
        if (bytes.Count == 0)
        {
            bytes.AddRange(other);
            return;
        }
        switch (random.Below(target.Words.Count > 0 ? 14 : 12))
        {
            case 0:
                bytes[At(bytes)] ^= (byte)(1 << random.Below(8));
                break;
            case 1:
                bytes[At(bytes)] = (byte)random.Next();
                break;
            case 2 or 3:
                PutExtreme(bytes);
                break;
            case 4:
                AddToNumber(bytes);
                break;
            case 5:
                bytes.RemoveRange(random.Below(4) == 0 ? At(bytes) : bytes.Count - 1 - random.Below(Math.Min(bytes.Count, 16)), 1);
                break;
            case 6:
                int cut = At(bytes);
                bytes.RemoveRange(cut, bytes.Count - cut);
                break;
            case 7:
                RemoveSome(bytes);
                break;
            case 8:
                bytes.InsertRange(At(bytes), Piece([.. bytes]));
                break;
            case 9:
                if (other.Length > 0)
                    bytes.InsertRange(At(bytes), Piece(other));
                break;
            case 10:
                Overwrite(bytes, Piece(other.Length > 0 && random.OneIn(2) ? other : [.. bytes]));
                break;
            case 11:
                ReplaceDigits(bytes);
                break;
            default:
                byte[] word = random.Pick(target.Words);
                if (random.OneIn(2))
                    Overwrite(bytes, word);
                else
                    bytes.InsertRange(At(bytes), word);
                break;
        }
    }

    private int At(List<byte> bytes) => random.Below(bytes.Count);

    private void PutExtreme(List<byte> bytes)
    {
        Span<byte> number = stackalloc byte[8];
        ulong value = random.Pick(Extremes);
        int size = 1 << random.Below(4),
            at = At(bytes);
        // Fields are mostly aligned.
        if (random.OneIn(2))
            at -= at % size;
        if (random.OneIn(2))
            BinaryPrimitives.WriteUInt64LittleEndian(number, value);
        else
            BinaryPrimitives.WriteUInt64BigEndian(number, value << (64 - (size * 8)));
        for (int i = 0; i < size && at + i < bytes.Count; i++)
            bytes[at + i] = number[i];
    }

    private void AddToNumber(List<byte> bytes)
    {
        int at = At(bytes);
        bytes[at] = (byte)(bytes[at] + random.Below(33) - 16);
    }

    private void RemoveSome(List<byte> bytes)
    {
        int at = At(bytes);
        bytes.RemoveRange(at, Math.Min(1 + random.Below(random.OneIn(4) ? 4096 : 32), bytes.Count - at));
    }

    private ReadOnlySpan<byte> Piece(byte[] from)
    {
        int at = random.Below(from.Length);
        return from.AsSpan(at, Math.Min(1 + random.Below(random.OneIn(4) ? 8192 : 64), from.Length - at));
    }

    private void Overwrite(List<byte> bytes, ReadOnlySpan<byte> piece)
    {
        int at = At(bytes);
        for (int i = 0; i < piece.Length && at + i < bytes.Count; i++)
            bytes[at + i] = piece[i];
    }

    private void ReplaceDigits(List<byte> bytes)
    {
        int from = At(bytes);
        while (from < bytes.Count && !IsDigit(bytes[from]))
            from++;
        int to = from;
        while (to < bytes.Count && IsDigit(bytes[to]))
            to++;
        if (from == to)
            return;
        bytes.RemoveRange(from, to - from);
        string number = random.OneIn(3) ? random.Pick(Extremes).ToString(CultureInfo.InvariantCulture) : random.Pick(Numbers);
        bytes.InsertRange(from, Encoding.ASCII.GetBytes(number));
    }

    private static bool IsDigit(byte b) => b is >= (byte)'0' and <= (byte)'9';
}
