using System.Runtime.InteropServices;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Tests.Store;

/// <summary>A RAM block with known content.</summary>
internal sealed record GuestBlock(RamBlockLayout Layout, byte[] Memory)
{
    public static GuestBlock Random(string name, int pages, Random random, double zeroShare = 0.4)
    {
        byte[] memory = new byte[pages * FormatV1.PageSize];
        for (int p = 0; p < pages; p++)
        {
            Span<byte> page = memory.AsSpan(p * FormatV1.PageSize, FormatV1.PageSize);
            if (random.NextDouble() < zeroShare)
                continue;
            switch (random.Next(4))
            {
                case 0:
                    random.NextBytes(page);
                    break; // does not compress
                case 1:
                    page.Fill((byte)random.Next(1, 256));
                    break; // compresses to nothing
                case 2:
                    page[random.Next(page.Length)] = 1;
                    break; // zero except for one byte
                default:
                    for (int i = 0; i < page.Length; i++)
                        page[i] = (byte)random.Next(8); // compresses to a half
                    break;
            }
        }
        return new GuestBlock(new RamBlockLayout(name, (ulong)memory.Length, 4096), memory);
    }
}

/// <summary>Writes snapshots of <see cref="GuestBlock"/>s the way a capture does.</summary>
internal static unsafe class GuestSnapshot
{
    public static IReadOnlyList<RamBlockLayout> Layouts(IEnumerable<GuestBlock> blocks) => [.. blocks.Select(b => b.Layout)];

    /// <summary>Some blocks with every kind of page, short last granules and an empty range.</summary>
    public static List<GuestBlock> Small(int seed = 1)
    {
        var random = new Random(seed);
        return
        [
            GuestBlock.Random("pc.ram", 37, random),
            new GuestBlock(new RamBlockLayout("0000:00:02.0/vga.vram", 2 * 65536, 4096), new byte[2 * 65536]),
            GuestBlock.Random("/rom@etc/acpi/tables", 1, random, 0),
        ];
    }

    public static PageLogSummary WriteLog(
        PageLogWriter writer,
        IReadOnlyList<GuestBlock> blocks,
        PageCompression compression,
        int threads = 1,
        int granulesPerRun = 3
    )
    {
        using var index = new GranuleIndex(Layouts(blocks));
        using var ledger = new GranuleLedger(index.Count);
        List<(int Block, long Granule)> all =
        [
            .. blocks.SelectMany((b, i) => Enumerable.Range(0, (int)FormatV1.GranuleCount(b.Layout.UsedLength)).Select(g => (i, (long)g))),
        ];
        int next = -1;
        Parallel.For(0, threads, new ParallelOptions { MaxDegreeOfParallelism = threads }, _ =>
        {
            using var encoder = new GranuleEncoder(compression);
            byte* run = (byte*)NativeMemory.AlignedAlloc((nuint)(granulesPerRun * 65536), 4096);
            var entries = new List<(long Granule, GranuleEntry Entry, int At)>();
            int used = 0;
            for (int i; (i = Interlocked.Increment(ref next)) < all.Count; )
            {
                (int b, long g) = all[i];
                GranuleEntry e;
                fixed (byte* memory = blocks[b].Memory)
                    e = encoder.Encode(memory + (g * 65536), FormatV1.GranuleLength(blocks[b].Layout.UsedLength, g), run + used);
                ledger.NoteCopied(index.FirstGranule(b) + g, 1);
                if (e.IsZero)
                {
                    ledger.NoteZero(index.FirstGranule(b) + g);
                    continue;
                }
                ledger.NoteEncoded(index.FirstGranule(b) + g);
                entries.Add((index.FirstGranule(b) + g, e, used));
                used += e.StoredLength;
                if (used > (granulesPerRun - 1) * 65536)
                    Flush();
            }
            Flush();
            NativeMemory.AlignedFree(run);

            void Flush()
            {
                if (used == 0)
                    return;
                int length = (int)FormatV1.Align(used);
                NativeMemory.Clear(run + used, (nuint)(length - used));
                long offset = writer.Reserve(length);
                writer.WriteRun(run, length, offset);
                ledger.NoteWritten([.. entries.Select(e => e.Granule)]);
                foreach ((long granule, GranuleEntry entry, int at) in entries)
                    index.Set(granule, entry.WithOffset(offset + at));
                entries.Clear();
                used = 0;
            }
        });
        return writer.Finish(index, ledger, index.Count);
    }

    public static PageLogSummary WriteLog(string path, IReadOnlyList<GuestBlock> blocks, PageCompression compression, int threads = 1)
    {
        using PageLogWriter writer = PageLogWriter.Create(path, Layouts(blocks), compression, Guid.NewGuid());
        return WriteLog(writer, blocks, compression, threads);
    }

    public static Manifest Write(string dir, IReadOnlyList<GuestBlock> blocks, PageCompression compression, int deviceState = 700)
    {
        using SnapshotDirectoryWriter writer = SnapshotDirectoryWriter.Begin(dir);
        Manifest manifest = Fill(writer, blocks, compression, deviceState);
        return writer.Commit(manifest);
    }

    public static Manifest Fill(
        SnapshotDirectoryWriter writer,
        IReadOnlyList<GuestBlock> blocks,
        PageCompression compression,
        int deviceState = 700
    )
    {
        Guid id = Guid.NewGuid();
        PageLogSummary summary;
        using (PageLogWriter log = writer.CreateMemory(Layouts(blocks), compression, id))
            summary = WriteLog(log, blocks, compression);
        byte[] state = new byte[deviceState];
        new Random(5).NextBytes(state);
        using (var file = writer.CreateFile(FormatV1.DeviceStateFileName))
            RandomAccess.Write(file, state, 0);
        return SampleManifest(id) with
        {
            Ram = ManifestRam.From(
                summary,
                [.. blocks.Select(b => new ManifestRamBlock(b.Layout.Name, b.Layout.UsedLength, b.Layout.HostPageSize, "anonymous"))]
            ),
        };
    }

    public static Manifest SampleManifest(Guid id) =>
        new()
        {
            Id = id,
            Name = "db-0900",
            CreatedBy = "bgsnap-agent 0.1.0",
            PointInTime = new DateTimeOffset(2026, 8, 1, 9, 0, 0, TimeSpan.Zero).AddMicroseconds(123456),
            Source = new ManifestSource
            {
                Pid = 42,
                QmpSocket = "/run/qmp.sock",
                VmName = "db",
                Uuid = null,
            },
            Machine = new ManifestMachine
            {
                Type = "pc-i440fx-7.2",
                QemuVersion = "7.2.19",
                Arguments = ["qemu-system-x86_64", "-name", "grüße \"+<"],
            },
            Capture = new ManifestCapture
            {
                Engine = "agent",
                EngineReason = null,
                Compression = "zstd",
                DowntimeMicroseconds = 4600,
                ProtectionWindowMicroseconds = 800_000,
                TotalMicroseconds = 1_200_000,
                Faults = new ManifestFaults
                {
                    Count = 3,
                    P50Microseconds = 20,
                    P99Microseconds = 50,
                    MaxMicroseconds = 67,
                },
                Timeline = [new ManifestTimelineEntry("stop", 1000), new ManifestTimelineEntry("cont", 5600)],
            },
            Ram = new ManifestRam
            {
                TotalBytes = 0,
                StoredPages = 0,
                ZeroPages = 0,
                StoredBytes = 0,
                Blocks = [],
            },
        };

    /// <summary>Reads every granule, in a shuffled order, and compares it with the guest.</summary>
    public static void AssertSame(PageLogReader log, IReadOnlyList<GuestBlock> blocks)
    {
        using var decoder = new GranuleDecoder();
        byte[] got = new byte[65536];
        var order = blocks
            .SelectMany((b, i) => Enumerable.Range(0, (int)log.GranuleCount(i)).Select(g => (Block: i, Granule: g)))
            .ToArray();
        new Random(9).Shuffle(order);
        foreach ((int b, int g) in order)
        {
            Array.Fill(got, (byte)0xee);
            fixed (byte* p = got)
                log.ReadGranule(b, g, p, decoder);
            int length = log.GranuleLength(b, g);
            Assert.True(blocks[b].Memory.AsSpan(g * 65536, length).SequenceEqual(got.AsSpan(0, length)), $"block {b} granule {g}");
            Assert.False(got.AsSpan(length).ContainsAnyExcept((byte)0));
        }
    }
}
