using System.Buffers.Binary;
using System.IO.Hashing;
using Bgsnap.Engine.Restore.Instant;
using Bgsnap.Fuzz.Engine;

namespace Bgsnap.Fuzz.Readers;

/// <summary>The hint that a restore leaves beside a snapshot: what its guest touched first.</summary>
internal sealed class StartOrderTarget : FuzzTarget
{
    private static readonly Guid Id = new("00112233-4455-6677-8899-aabbccddeeff");
    private static readonly LazyBlock[] Blocks =
    [
        new(0, "pc.ram", 0x1000_0000, 37 * 4096, 4096, 0),
        new(2, "huge", 0x4000_0000, 4 << 20, 2 << 20, 3),
    ];

    internal override string Name => "start-order";

    // A hint that is not sound is no hint.
    internal override bool IsRefusal(Exception e) => false;

    internal override void Read(byte[] input)
    {
        IReadOnlyList<long> units = RecordedStart.Parse(input, Id, Blocks);
        Promise(units.Count <= input.Length / 8, "more units than the record holds");
        Promise(units.All(u => Blocks.Any(b => u >= b.FirstUnit && u < b.FirstUnit + b.Units)), "a unit of no block");
    }

    internal override byte[] Repair(byte[] input, Prng random)
    {
        if (input.Length < 40)
            return input;
        BinaryPrimitives.WriteInt32LittleEndian(
            input.AsSpan(12),
            random.OneIn(4) ? BinaryPrimitives.ReadInt32LittleEndian(input.AsSpan(12)) : (input.Length - 40) / 8
        );
        BinaryPrimitives.WriteUInt64LittleEndian(input.AsSpan(input.Length - 8), XxHash3.HashToUInt64(input.AsSpan(0, input.Length - 8)));
        return input;
    }

    internal override IEnumerable<byte[]> Samples() =>
        [RecordedStart.Format(Id, []), RecordedStart.Format(Id, [(0, 0), (2, 63), (0, 2), (2, 32)])];
}
