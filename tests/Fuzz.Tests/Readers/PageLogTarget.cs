using System.Buffers.Binary;
using System.IO.Hashing;
using Bgsnap.Fuzz.Engine;
using Bgsnap.NodeAgent.Tests.Store;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Fuzz.Readers;

/// <summary>A page log, <c>memory</c>: header, footer, index and granules, as the reader and the verifier see them.</summary>
internal sealed class PageLogTarget : FuzzTarget
{
    private const long MostGranules = 256;
    private readonly HostileFolder _folder = new(FormatV1.MemoryFileName);
    private readonly GuardedBuffer _granule = new(FormatV1.GranuleSize);
    private readonly GranuleDecoder _decoder = new();

    internal override string Name => "page-log";

    internal override bool IsRefusal(Exception e) => e is SnapshotCorruptException;

    // The verifier reads the index by 1 MiB, and gathers up to a thousand problems in words.
    internal override long AllocationLimit(int length) => (3 << 20) + (64L * length);

    internal override void Read(byte[] input)
    {
        _folder.Write(input);
        bool sound = IsSound(input.Length);
        try
        {
            ReadAll(input.Length);
        }
        catch (SnapshotCorruptException) when (sound)
        {
            throw new BrokenPromiseException("verify calls a page log sound that cannot be read");
        }
    }

    private bool IsSound(int length)
    {
        VerifyReport report = new();
        SnapshotVerifier.Guard(report, FormatV1.MemoryFileName, () => PageLogVerifier.Verify(_folder.Handle, report, null));
        Promise(report.Problems.All(p => p.Offset >= 0), "a problem has a negative offset");
        Promise(
            report.BytesRead <= 2 * FormatV1.GranuleSize * (1 + (length / FormatV1.EntrySize)),
            "verify reads more than its entries name"
        );
        return report.IsSound;
    }

    private unsafe void ReadAll(int length)
    {
        using PageLogReader log = PageLogReader.OpenIn(_folder.Handle, FormatV1.MemoryFileName, "memory", null);
        Promise(log.Header.TotalGranules * FormatV1.EntrySize <= length, "the index has more entries than the file has room for");
        for (int b = 0; b < log.Blocks.Count; b++)
        {
            long granules = log.GranuleCount(b),
                next = granules > 0 ? log.NextStored(b, 0) : 0;
            Promise(next <= granules, "the next stored granule lies behind the block");
            for (long g = 0; g < Math.Min(granules, MostGranules); g++)
            {
                log.ReadGranule(b, g, _granule.Pointer, _decoder);
                Promise(
                    !new ReadOnlySpan<byte>(_granule.Pointer, FormatV1.GranuleSize)[log.GranuleLength(b, g)..].ContainsAnyExcept((byte)0),
                    "bytes beyond a block's end are not zero"
                );
            }
        }
    }

    internal override byte[] Repair(byte[] input, Prng random)
    {
        if (input.Length < 2 * 4096)
            return input;
        // A mutation that moved the parts: the length becomes whole again, and the footer stands at the end.
        Span<byte> file = input.AsSpan(0, input.Length & ~4095),
            footer = file[^4096..];
        uint header = BinaryPrimitives.ReadUInt32LittleEndian(file[12..]);
        if (header >= 64 && header <= file.Length - 4096)
        {
            ulong sum = XxHash3.HashToUInt64(file[..((int)header - 8)]);
            BinaryPrimitives.WriteUInt64LittleEndian(file[((int)header - 8)..], sum);
            BinaryPrimitives.WriteUInt64LittleEndian(footer[40..], sum);
            file.Slice(40, 16).CopyTo(footer[48..]);
        }
        long length = BinaryPrimitives.ReadInt64LittleEndian(footer[24..]),
            at = file.Length - 4096 - length;
        if (length >= 0 && at >= 0 && at < file.Length)
        {
            if (random.OneIn(2))
                SealGranules(file, (int)at, (int)length);
            BinaryPrimitives.WriteInt64LittleEndian(footer[16..], at);
            BinaryPrimitives.WriteUInt64LittleEndian(footer[32..], XxHash3.HashToUInt64(file.Slice((int)at, (int)length)));
        }
        BinaryPrimitives.WriteUInt64LittleEndian(footer[^8..], XxHash3.HashToUInt64(footer[..^8]));
        return file.ToArray();
    }

    private static void SealGranules(Span<byte> file, int at, int length)
    {
        for (Span<byte> entry = file.Slice(at, length & ~15); entry.Length > 0; entry = entry[16..])
        {
            GranuleEntry e = new(BinaryPrimitives.ReadUInt64LittleEndian(entry), BinaryPrimitives.ReadUInt64LittleEndian(entry[8..]));
            if (!e.IsZero && e.Offset + e.StoredLength <= file.Length)
                BinaryPrimitives.WriteUInt32LittleEndian(entry[8..], (uint)XxHash3.HashToUInt64(file.Slice((int)e.Offset, e.StoredLength)));
        }
    }

    internal override IEnumerable<byte[]> Samples()
    {
        foreach (PageCompression compression in Enum.GetValues<PageCompression>())
        {
            string path = Path.Join(_folder.Path, "sample");
            Random random = new(7);
            List<GuestBlock> blocks =
            [
                GuestBlock.Random("pc.ram", 18, random, 0.8),
                new(new RamBlockLayout("vga.vram", 65536, 4096), new byte[65536]),
                GuestBlock.Random("/rom@etc/acpi/tables", 1, random, 0),
            ];
            using (
                PageLogWriter writer = PageLogWriter.Create(
                    path,
                    GuestSnapshot.Layouts(blocks),
                    compression,
                    new Guid("00112233-4455-6677-8899-aabbccddeeff")
                )
            )
                _ = GuestSnapshot.WriteLog(writer, blocks, compression);
            yield return File.ReadAllBytes(path);
            File.Delete(path);
        }
    }

    internal override int LargestInput => 80 << 10;

    protected override void CleanUp()
    {
        _decoder.Dispose();
        _granule.Dispose();
        _folder.Dispose();
    }
}
