using System.Diagnostics;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.SnapshotFormat.Streams;
using Bgsnap.Vocabulary;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Capture;

/// <summary>Puts RAM pages, in the order in which QEMU sends them, into place in a sparse file without a name.</summary>
internal sealed unsafe class ScatteredRam : IMigrationStreamSink, IDisposable
{
    private const int RunBytes = 2 << 20;
    private const long SoonerThanWatch = 500_000_000; // nanoseconds, as a heartbeat's
    private readonly SafeFileHandle _file;
    private readonly CaptureProgress _progress;
    private readonly Action _firstPage;
    private readonly GuestWatch.Heartbeat _writes;
    private long[] _first = [];
    private bool _began;

    internal ScatteredRam(string path, CaptureProgress progress, Action firstPage, GuestWatch.Heartbeat writes)
    {
        (_progress, _firstPage, _writes) = (progress, firstPage, writes);
        _file = FileSyscalls.OpenAt(
            null,
            path,
            FileSyscalls.O_RDWR | FileSyscalls.O_CREAT | FileSyscalls.O_EXCL,
            0x180 /* 0600 */
        );
        File.Delete(path);
    }

    public void OnBlocks(IReadOnlyList<StreamRamBlock> blocks)
    {
        _first = new long[blocks.Count];
        long at = 0;
        for (int i = 0; i < blocks.Count; i++)
        {
            _first[i] = at;
            at += FormatV1.GranuleCount(blocks[i].UsedLength) * FormatV1.GranuleSize;
        }
        // The guest may be stopped until the first page: a volume that hangs must not keep it stopped.
        _writes.Touch();
        RandomAccess.SetLength(_file, at);
        _writes.Rest();
        _progress.TotalBytes = blocks.Sum(b => (long)b.UsedLength);
    }

    public void OnPage(int block, ulong offset, ReadOnlySpan<byte> page)
    {
        Begin();
        // QEMU does not release a page before we have read it and the pages behind it.
        _writes.Touch();
        try
        {
            RandomAccess.Write(_file, page, _first[block] + (long)offset);
        }
        finally
        {
            _writes.Rest();
        }
        _progress.AddCopied(page.Length);
    }

    public void OnZeroPage(int block, ulong offset)
    {
        // The file has a hole there: a background snapshot sends each page once.
        Begin();
        _progress.AddCopied(FormatV1.PageSize);
    }

    /// <summary>
    /// Called by another thread: gives up before the watch kills this process, which would stay, with QEMU's pipe, as long as the volume
    /// hangs.
    /// </summary>
    /// <exception cref="CaptureFailedException">The volume has not taken a page for too long.</exception>
    internal void ThrowIfStuck()
    {
        if (_writes.Until is not (> 0 and long until) || until - Stopwatch.GetTimestamp() > SoonerThanWatch)
            return;
        throw new CaptureFailedException(
            Reasons.TargetTooSlow,
            "the target volume took no data while the guest waited; the guest was set free. Use a faster volume"
        );
    }

    private void Begin()
    {
        if (_began)
            return;
        _began = true;
        _firstPage();
    }

    /// <summary>Writes the page log in granule order.</summary>
    /// <returns>The number of granules with data.</returns>
    internal long Pack(
        PageCompression compression,
        IReadOnlyList<RamBlockLayout> blocks,
        GranuleIndex index,
        GranuleLedger ledger,
        PageLogWriter log,
        CaptureProgress progress
    )
    {
        using GranuleEncoder encoder = new(compression);
        byte* run = NativeMemoryMap.Allocate(RunBytes);
        byte* raw = NativeMemoryMap.Allocate(FormatV1.GranuleSize);
        List<(long Granule, GranuleEntry Entry, int Position)> entries = new(RunBytes / 4096);
        int used = 0;
        long packed = 0;
        try
        {
            for (int b = 0; b < blocks.Count; b++)
            {
                for (long g = NextData(b, 0, blocks[b].UsedLength); g >= 0; g = NextData(b, g + 1, blocks[b].UsedLength))
                {
                    int length = FormatV1.GranuleLength(blocks[b].UsedLength, g);
                    _ = FileSyscalls.ReadAll(_file, raw, (nuint)length, _first[b] + g * FormatV1.GranuleSize, "the scattered pages");
                    if (used + FormatV1.GranuleSize > RunBytes)
                        Flush();
                    long granule = index.FirstGranule(b) + g;
                    ledger.NoteCopied(granule, 1);
                    packed++;
                    GranuleEntry e = encoder.Encode(raw, length, run + used);
                    if (e.IsZero)
                    {
                        ledger.NoteZero(granule);
                        continue;
                    }
                    ledger.NoteEncoded(granule);
                    entries.Add((granule, e, used));
                    used += e.StoredLength;
                }
            }
            Flush();
        }
        finally
        {
            NativeMemoryMap.Free(run, RunBytes);
            NativeMemoryMap.Free(raw, FormatV1.GranuleSize);
        }
        return packed;

        void Flush()
        {
            if (used == 0)
                return;
            int length = (int)FormatV1.Align(used);
            new Span<byte>(run + used, length - used).Clear();
            long offset = log.Reserve(length);
            foreach ((long granule, GranuleEntry entry, int position) in entries)
                index.Set(granule, entry.WithOffset(offset + position));
            log.WriteRun(run, length, offset);
            ledger.NoteWritten([.. entries.Select(e => e.Granule)]);
            progress.AddWritten(length);
            entries.Clear();
            used = 0;
        }
    }

    /// <summary>The next granule of a block that is not a hole; -1 after the last.</summary>
    private long NextData(int block, long granule, ulong usedLength)
    {
        long count = FormatV1.GranuleCount(usedLength);
        if (granule >= count)
            return -1;
        long data = Libc.LSeek((int)_file.DangerousGetHandle(), _first[block] + granule * FormatV1.GranuleSize, Libc.SEEK_DATA);
        long found = data < 0 ? count : Math.Max(granule, (data - _first[block]) / FormatV1.GranuleSize);
        return found < count ? found : -1;
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();
}
