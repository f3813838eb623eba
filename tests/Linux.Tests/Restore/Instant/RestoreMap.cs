using Bgsnap.Linux.Tests.Harness;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Linux.Tests.Restore.Instant;

/// <summary>The map of arrived pages that QEMU holds while memory follows its guest, read from outside: its layout is LazyRam's.</summary>
internal sealed class RestoreMap
{
    private const int HeaderSize = 64,
        EntrySize = 32,
        Page = 4096,
        PagesOfUnit = 16,
        InboxSize = 4096,
        MessageSize = 32;
    private readonly byte[] _bytes;

    private RestoreMap(byte[] bytes) => _bytes = bytes;

    /// <summary>Reads the current map.</summary>
    public static RestoreMap Of(VirtualMachine target)
    {
        var map = Directory
            .EnumerateFiles($"/proc/{target.Pid}/fd")
            .Single(f => new FileInfo(f).LinkTarget!.Contains("bgsnap-instant", StringComparison.Ordinal));
        // .NET's own way of opening would wait for the restoring process's lock.
        using var file = FileSyscalls.OpenAt(null, map, FileSyscalls.O_RDONLY);
        var bytes = new byte[RandomAccess.GetLength(file)];
        Assert.Equal(bytes.Length, RandomAccess.Read(file, bytes, 0));
        return new RestoreMap(bytes);
    }

    /// <summary>Messages that the last process had read and perhaps not recorded (struct uffd_msg).</summary>
    public IEnumerable<(int Event, ulong Start, ulong End)> Inbox =>
        [.. _bytes[^InboxSize..].Chunk(MessageSize).Select(m => ((int)m[0], BitConverter.ToUInt64(m, 8), BitConverter.ToUInt64(m, 16)))];

    /// <summary>The pages that the guest has discarded so far: block in the page log, page in it, address in QEMU.</summary>
    public IReadOnlyList<(int Block, long Page, ulong Address)> Removed()
    {
        List<(int, long, ulong)> removed = [];
        int blocks = BitConverter.ToInt32(_bytes, 12),
            states = Align(HeaderSize + blocks * EntrySize);
        var at = states + Align(BitConverter.ToInt32(_bytes, 32));
        for (var i = 0; i < blocks; i++)
        {
            var entry = HeaderSize + i * EntrySize;
            ulong start = BitConverter.ToUInt64(_bytes, entry),
                length = BitConverter.ToUInt64(_bytes, entry + 8);
            Assert.Equal(Page, BitConverter.ToInt32(_bytes, entry + 16));
            for (ulong page = 0; page < length / Page; page++)
            {
                if ((BitConverter.ToUInt16(_bytes, at + (int)(page / PagesOfUnit) * sizeof(ushort)) >> (int)(page % PagesOfUnit) & 1) != 0)
                    removed.Add((BitConverter.ToInt32(_bytes, entry + 20), (long)page, start + page * Page));
            }

            at += (int)((length / Page + PagesOfUnit - 1) / PagesOfUnit) * sizeof(ushort);
        }

        return removed;
    }

    /// <summary>The discarded pages that hold data in the snapshot.</summary>
    public static unsafe IReadOnlyDictionary<ulong, byte[]> WithData(
        IReadOnlyList<(int Block, long Page, ulong Address)> removed,
        string snapshot
    )
    {
        using var log = PageLogReader.Open(Path.Combine(snapshot, "memory"));
        using GranuleDecoder decoder = new();
        Dictionary<ulong, byte[]> data = [];
        var granule = new byte[PagesOfUnit * Page];
        foreach (var unit in removed.GroupBy(r => (r.Block, Granule: r.Page / PagesOfUnit)))
        {
            fixed (byte* p = granule)
                log.ReadGranule(unit.Key.Block, unit.Key.Granule, p, decoder);
            foreach (var (_, page, address) in unit)
            {
                var was = granule.AsSpan((int)(page % PagesOfUnit) * Page, Page);
                if (was.ContainsAnyExcept((byte)0))
                    data.Add(address, was.ToArray());
            }
        }

        return data;
    }

    private static int Align(long length) => (int)((length + Page - 1) & ~(long)(Page - 1));
}
