using Bgsnap.Fuzz.Engine;
using Bgsnap.NodeAgent.Tests.Streams;
using Bgsnap.SnapshotFormat.Streams;

namespace Bgsnap.Fuzz.Readers;

/// <summary>A migration stream of QEMU: head, pages, devices, description. The first byte says in which pieces it arrives.</summary>
internal sealed class MigrationStreamTarget : FuzzTarget
{
    internal override string Name => "migration-stream";

    internal override bool IsRefusal(Exception e) => e is MigrationStreamException;

    // Two parsers; each takes 1 MiB when the devices begin.
    internal override long AllocationLimit(int length) => (6 << 20) + (128L * length);

    internal override void Read(byte[] input)
    {
        if (input.Length == 0)
            return;
        ReadOnlySpan<byte> stream = input.AsSpan(1);
        string whole = Parse(stream, stream.Length),
            pieces = Parse(stream, 1 + input[0]);
        Promise(whole == pieces, $"in one piece: {whole}; in pieces of {1 + input[0]}: {pieces}");
        if (whole.StartsWith('!'))
            throw new MigrationStreamException(whole, 0);
    }

    private static string Parse(ReadOnlySpan<byte> stream, int piece)
    {
        Sink sink = new();
        try
        {
            MigrationStreamParser parser = new(sink);
            for (int at = 0; at < stream.Length; at += piece)
                parser.Feed(stream.Slice(at, Math.Min(piece, stream.Length - at)));
            MigrationStreamContents c = parser.Complete();
            Promise(c.Pages == sink.Pages && c.ZeroPages == sink.ZeroPages, "pages are counted that were not handed on");
            Promise(c.Length == stream.Length, "bytes of the stream are left over");
            return $"{c.MachineType} {c.Blocks.Count} {sink.Hash:x} {c.DeviceState.Sections.Count} {c.Description?.Devices.Count}";
        }
        catch (MigrationStreamException e)
        {
            Promise(e.Offset >= 0, "an error is at a negative offset");
            // How much has arrived shows where a stream was cut; the rest must be the same.
            return $"!{e.Message[..Math.Min(e.Message.Length, 40)]} {sink.Hash:x}";
        }
    }

    internal override IReadOnlyList<byte[]> Words { get; } =
    [
        [0x7e, 0, 0, 0, 2],
        [4, 0, 0, 0, 7],
        [2, 0, 0, 0, 2],
        [3, 0, 0, 0, 2],
        [8, 0, 11, 0, 0],
        [5],
        [6, 0, 0, 0, 2, (byte)'{', (byte)'}'],
        [0, 0, 0, 0, 0, 0, 0, 0x10],
        [0, 0, 0, 0, 0, 0, 0x10, 0x28],
        [0],
        [5, 18, .. "configuration/uuid"u8, 0, 0, 0, 1],
        [5, 30, .. "configuration/target-page-bits"u8, 0, 0, 0, 1, 0, 0, 0, 12],
        [5, 26, .. "configuration/capabilities"u8, 0, 0, 0, 1, 0, 0, 0, 0],
    ];

    internal override IEnumerable<byte[]> Samples() =>
        [
            [200, .. StreamSamples.BackgroundSnapshot()],
            [6, .. StreamSamples.BackgroundSnapshot(description: false)],
            [
                0,
                .. StreamSamples.FileHeader,
                .. StreamSamples.Configuration,
                5,
                18,
                .. "configuration/uuid"u8,
                0,
                0,
                0,
                1,
                .. new byte[16],
                .. StreamSamples.RamStart(2, ("pc.ram", 0x4000)),
                .. StreamSamples.RamSection(3, 2, [.. StreamSamples.Be64(2), .. StreamSamples.Name("pc.ram"), 0]),
                8,
                0,
                11,
                0,
                0,
                .. StreamSamples.Devices,
            ],
            [
                77,
                .. StreamSamples.Write(
                    new MemoryRam().Add("pc.ram", StreamSamples.Page(9)).Add("rom", new byte[8192]),
                    new MigrationStreamWriterOptions { ReaderThreads = 1 }
                ),
            ],
        ];

    private sealed class Sink : IMigrationStreamSink
    {
        private IReadOnlyList<StreamRamBlock> _blocks = [];

        internal long Pages { get; private set; }

        internal long ZeroPages { get; private set; }

        internal ulong Hash { get; private set; } = 14695981039346656037;

        public void OnBlocks(IReadOnlyList<StreamRamBlock> blocks)
        {
            Promise(_blocks.Count == 0 && blocks.Count > 0, "the blocks come twice, or not at all");
            _blocks = blocks;
        }

        public void OnPage(int block, ulong offset, ReadOnlySpan<byte> page)
        {
            Promise(page.Length == 4096, "a page has another length");
            Take(block, offset, System.IO.Hashing.XxHash3.HashToUInt64(page));
            Pages++;
        }

        public void OnZeroPage(int block, ulong offset)
        {
            Take(block, offset, 0);
            ZeroPages++;
        }

        private void Take(int block, ulong offset, ulong content)
        {
            Promise(
                (uint)block < (uint)_blocks.Count && offset % 4096 == 0 && offset < _blocks[block].UsedLength,
                "a page lies outside its block"
            );
            Hash = ((Hash ^ content) * 1099511628211) ^ ((ulong)block << 52) ^ offset;
        }
    }
}
