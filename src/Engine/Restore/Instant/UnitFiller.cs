using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Engine.Restore.Instant;

/// <summary>Copies units into QEMU's memory; one for each thread, with its own buffer. Never reads QEMU's memory.</summary>
/// <param name="uffd">The context.</param>
/// <param name="ram">The map.</param>
/// <param name="log">The snapshot's memory.</param>
/// <param name="gate">The gate between copies and events.</param>
/// <param name="copier">This filler's number at the gate.</param>
internal sealed unsafe class UnitFiller(Userfaultfd uffd, LazyRam ram, PageLogReader log, CopyGate gate, int copier) : IDisposable
{
    private const int LargestUnit = 2 << 20;
    private readonly GranuleDecoder _decoder = new();
    private byte* _buffer = NativeMemoryMap.Allocate(LargestUnit);
    private byte* _zeroes = NativeMemoryMap.Allocate(LargestUnit);

    /// <summary>Loads a claimed unit.</summary>
    /// <returns>Null; or why the unit cannot be read. Then nothing was loaded, and the unit is marked bad.</returns>
    /// <exception cref="LinuxException">QEMU is gone.</exception>
    internal string? Fill(LazyBlock block, long unit)
    {
        try
        {
            Read(block, unit);
        }
        catch (Exception e) when (e is SnapshotCorruptException or IOException)
        {
            ram.MarkBad(unit);
            // A waiting thread faults again, and that fault is kept until the unit can be read.
            uffd.Wake(block.UnitStart(unit), (ulong)block.UnitLength(unit));
            return e.Message;
        }
        Copy(block, unit, _buffer);
        ram.MarkDone(block, unit);
        return null;
    }

    /// <summary>Fills a unit with zeroes where the snapshot has nothing else.</summary>
    internal void FillZero(LazyBlock block, long unit) => Copy(block, unit, _zeroes);

    /// <summary>Fills one page with zeroes where the guest has discarded it.</summary>
    internal void FillRemoved(LazyBlock block, ulong page)
    {
        while (CopyInGate(page, _zeroes, block.PageSize, block.PageSize) == 0)
            Thread.Sleep(0);
    }

    private void Read(LazyBlock block, long unit)
    {
        long first = block.FirstGranule(unit);
        for (int i = 0; i < block.Granules(unit); i++)
            log.ReadGranule(block.LogIndex, first + i, _buffer + (long)i * FormatV1.GranuleSize, _decoder);
    }

    private void Copy(LazyBlock block, long unit, byte* source)
    {
        ulong start = block.UnitStart(unit);
        int length = block.UnitLength(unit),
            size = block.PageSize;
        bool skipped = false;
        for (int at = 0; at < length; )
        {
            gate.Enter(copier);
            int from = at,
                to;
            try
            {
                int removed = ram.Removed(unit);
                while (from < length && (removed >> (from / size) & 1) != 0)
                    from += size;
                to = from;
                while (to < length && (removed >> (to / size) & 1) == 0)
                    to += size;
                skipped |= from > at;
                at = from == to ? to : from + uffd.Copy(start + (ulong)from, source + from, to - from, size);
            }
            finally
            {
                gate.Leave(copier);
            }
            if (at < to)
                Thread.Sleep(0); // an event waits to be read
        }
        // A thread that waited for a page that was discarded meanwhile faults again, and that fault is served then.
        if (skipped || ram.Removed(unit) != 0)
            uffd.Wake(start, (ulong)length);
    }

    private int CopyInGate(ulong start, byte* source, int length, int size)
    {
        gate.Enter(copier);
        try
        {
            return uffd.Copy(start, source, length, size);
        }
        finally
        {
            gate.Leave(copier);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        NativeMemoryMap.Free(_buffer, LargestUnit);
        NativeMemoryMap.Free(_zeroes, LargestUnit);
        _buffer = _zeroes = null;
        _decoder.Dispose();
    }
}
