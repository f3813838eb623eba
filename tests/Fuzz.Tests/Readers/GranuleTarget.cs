using System.Buffers.Binary;
using System.IO.Hashing;
using Bgsnap.Fuzz.Engine;
using Bgsnap.NodeAgent.Tests.Store;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Fuzz.Readers;

/// <summary>
/// The stored form of one granule: raw, LZ4 or Zstandard. The input is the length in pages, the index entry (16 bytes), and the stored
/// bytes.
/// </summary>
internal sealed class GranuleTarget : FuzzTarget
{
    private const int Head = 17;
    private readonly GuardedBuffer _to = new(FormatV1.GranuleSize);
    private readonly GranuleDecoder _decoder = new();

    internal override string Name => "granule";

    internal override bool IsRefusal(Exception e) => e is SnapshotCorruptException;

    internal override unsafe void Read(byte[] input)
    {
        if (input.Length < Head)
            return;
        int length = Math.Min(1 + (input[0] & 15), 16) * FormatV1.PageSize;
        GranuleEntry e = new(
            BinaryPrimitives.ReadUInt64LittleEndian(input.AsSpan(1)),
            BinaryPrimitives.ReadUInt64LittleEndian(input.AsSpan(9))
        );
        // SAFETY: all of the granule; the page behind it is guarded.
        Span<byte> to = new(_to.Pointer, FormatV1.GranuleSize);
        to.Fill(0xee);
        _decoder.Decode(e, input.AsSpan(Head), length, _to.Pointer);
        for (int page = 0; page < FormatV1.PagesPerGranule; page++)
        {
            if ((e.PageBitmap >> page & 1) == 0)
                Promise(
                    !to.Slice(page * FormatV1.PageSize, FormatV1.PageSize).ContainsAnyExcept((byte)0),
                    "a page that is not stored is not zero"
                );
        }
    }

    internal override byte[] Repair(byte[] input, Prng random)
    {
        if (input.Length < Head)
            return input;
        ulong hi = BinaryPrimitives.ReadUInt64LittleEndian(input.AsSpan(9));
        int stored = Math.Min(input.Length - Head, 65536);
        hi = (hi & ~0x1_ffff_ffff_ffffUL) | ((ulong)stored << 32) | (uint)XxHash3.HashToUInt64(input.AsSpan(Head));
        BinaryPrimitives.WriteUInt64LittleEndian(input.AsSpan(9), hi);
        return input;
    }

    internal override IReadOnlyList<byte[]> Words { get; } =
    [
        [0x28, 0xb5, 0x2f, 0xfd],
        [0x50, 0x2a, 0x4d, 0x18],
        [0x27, 0xb5, 0x2f, 0xfd],
        [0xff, 0xff, 0xff, 0xff],
    ];

    internal override IEnumerable<byte[]> Samples()
    {
        foreach (PageCompression compression in Enum.GetValues<PageCompression>())
        {
            foreach (double zeros in (double[])[0, 0.5])
                yield return Sample(compression, zeros);
        }
    }

    private static unsafe byte[] Sample(PageCompression compression, double zeros)
    {
        byte[] memory = GuestBlock.Random("x", 16, new Random(3), zeros).Memory;
        byte[] stored = new byte[FormatV1.GranuleSize];
        using GranuleEncoder encoder = new(compression);
        fixed (
            byte* from = memory,
                to = stored
        )
        {
            GranuleEntry e = encoder.Encode(from, memory.Length, to);
            byte[] input = new byte[Head + e.StoredLength];
            input[0] = 15;
            BinaryPrimitives.WriteUInt64LittleEndian(input.AsSpan(1), e.Lo);
            BinaryPrimitives.WriteUInt64LittleEndian(input.AsSpan(9), e.Hi);
            stored.AsSpan(0, e.StoredLength).CopyTo(input.AsSpan(Head));
            return input;
        }
    }

    internal override int LargestInput => (64 << 10) + Head;

    protected override void CleanUp()
    {
        _decoder.Dispose();
        _to.Dispose();
    }
}
