using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Restore.Instant;

/// <summary>
/// The map of RAM that is loaded while the guest runs: which units are loaded, which are still to come, and which pages the guest has
/// discarded.
/// </summary>
/// <remarks>
/// It lives in a memfd that QEMU holds too (<see cref="SharedState"/>): if the agent is killed, the next process finds there what was done.
/// Layout, little-endian:
/// <code>
///   0      "BGSNLAZY" written last, u32 version, u32 blocks, snapshot id (16), u64 units
///   64     blocks × { u64 address, u64 length, u32 page size, u32 index in the page log, u64 0 }
///   4096n  one byte a unit: its state;   then, 4096-aligned, two bytes a unit: bit i: page i is not the snapshot's any more
///   4096m  messages of the userfaultfd, 32 bytes each: read, and perhaps not noted yet
/// </code>
/// Every number is checked when it is read back, because QEMU could have written there.
/// </remarks>
internal sealed unsafe class LazyRam : IDisposable
{
    /// <summary>Its data has to be loaded.</summary>
    internal const byte Missing = 0;

    /// <summary>A thread is loading it.</summary>
    internal const byte Claimed = 1;

    /// <summary>It is loaded.</summary>
    internal const byte Done = 2;

    /// <summary>All zero in the snapshot: loaded only when the guest touches it.</summary>
    internal const byte Zero = 3;

    /// <summary>All zero, in a stretch so long that it is not even registered: the kernel itself supplies zeroes.</summary>
    internal const byte Absent = 4;

    /// <summary>It could not be read; the agent tries again later. A thread that touches it waits.</summary>
    internal const byte Bad = 5;

    private const int HeaderSize = 64,
        EntrySize = 32,
        Version = 2,
        InboxSize = 4096;
    private const ulong LongZeroes = 64 << 20;

    /// <summary>Messages that <see cref="Inbox"/> has room for.</summary>
    internal const int InboxCapacity = 64;
    private static ReadOnlySpan<byte> Magic => "BGSNLAZY"u8;

    private readonly SharedState _shared;
    private readonly LazyBlock[] _blocks;
    private readonly LazyBlock[] _byAddress;
    private readonly byte* _states;
    private readonly ushort* _removed;
    private long _pendingUnits;
    private long _pendingBytes;

    private LazyRam(SharedState shared, LazyBlock[] blocks, PageLogReader log)
    {
        (_shared, _blocks) = (shared, blocks);
        _byAddress = [.. blocks.OrderBy(b => b.Start)];
        Units = blocks[^1].FirstUnit + blocks[^1].Units;
        _states = shared.Bytes + StatesAt(blocks.Length);
        _removed = (ushort*)(shared.Bytes + RemovedAt(blocks.Length, Units));
        Classify(log);
    }

    /// <summary>The blocks, in the order of the page log.</summary>
    internal IReadOnlyList<LazyBlock> Blocks => _blocks;

    /// <summary>Units of all blocks.</summary>
    internal long Units { get; }

    /// <summary>Units whose data is not loaded yet, including bad ones.</summary>
    internal long PendingUnits => Volatile.Read(ref _pendingUnits);

    /// <summary>Bytes of those units.</summary>
    internal long PendingBytes => Volatile.Read(ref _pendingBytes);

    /// <summary>Registered stretches, as addresses.</summary>
    internal IReadOnlyList<(ulong Start, ulong End)> Registered { get; private set; } = [];

    /// <summary>Bytes of state for that many blocks and units.</summary>
    internal static long SizeOf(int blocks, long units) => InboxAt(blocks, units) + InboxSize;

    /// <summary>The buffer that receives messages: if the agent dies before they are noted, the next process finds them.</summary>
    /// <remarks>
    /// The kernel lets a discard continue before it copies its message here, and killing the agent does not prevent that.
    /// </remarks>
    internal UffdMessage* Inbox => (UffdMessage*)(_shared.Bytes + InboxAt(_blocks.Length, Units));

    /// <summary>Everything that was read is noted.</summary>
    internal void EmptyInbox() => new Span<byte>(Inbox, InboxSize).Clear();

    /// <summary>A map in which everything is still to be loaded. It is not valid for other processes until <see cref="Publish"/>.</summary>
    internal static LazyRam Create(SharedState shared, LazyBlock[] blocks, PageLogReader log)
    {
        byte* p = shared.Bytes;
        *(uint*)(p + 8) = Version;
        *(uint*)(p + 12) = (uint)blocks.Length;
        log.Header.Id.TryWriteBytes(new Span<byte>(p + 16, 16));
        *(long*)(p + 32) = blocks[^1].FirstUnit + blocks[^1].Units;
        for (int i = 0; i < blocks.Length; i++)
        {
            ulong* e = (ulong*)(p + HeaderSize + i * EntrySize);
            (e[0], e[1], e[2]) = (blocks[i].Start, blocks[i].Length, (uint)blocks[i].PageSize | (ulong)blocks[i].LogIndex << 32);
        }
        return new LazyRam(shared, blocks, log);
    }

    /// <summary>Declares memory registered and empty: from now on the next process relies on this map.</summary>
    internal void Publish()
    {
        Thread.MemoryBarrier();
        Magic.CopyTo(new Span<byte>(_shared.Bytes, 8));
    }

    /// <summary>Whether a process has published a map here.</summary>
    internal static bool IsPublished(SharedState shared) =>
        shared.Length >= HeaderSize && new ReadOnlySpan<byte>(shared.Bytes, 8).SequenceEqual(Magic);

    /// <summary>The snapshot that a published map belongs to.</summary>
    internal static Guid SnapshotOf(SharedState shared) => new(new ReadOnlySpan<byte>(shared.Bytes + 16, 16));

    /// <summary>The map that a dead process left.</summary>
    /// <exception cref="RestoreRefusedException">The map is not of this snapshot.</exception>
    internal static LazyRam Open(SharedState shared, PageLogReader log)
    {
        byte* p = shared.Bytes;
        uint count = *(uint*)(p + 12);
        long units = 0;
        if (*(uint*)(p + 8) != Version || count is 0 or > FormatV1.MaxBlocks || HeaderSize + (long)count * EntrySize > shared.Length)
            throw Foreign();
        var blocks = new LazyBlock[count];
        for (int i = 0; i < blocks.Length; i++)
        {
            ulong* e = (ulong*)(p + HeaderSize + i * EntrySize);
            (ulong start, ulong length, uint page, uint index) = (e[0], e[1], (uint)e[2], (uint)(e[2] >> 32));
            if (
                index >= log.Blocks.Count
                || log.Blocks[(int)index].UsedLength != length
                || length == 0
                || page is not (4096 or 2 << 20)
                || start % page != 0
                || start + length < start
            )
                throw Foreign();
            blocks[i] = new LazyBlock((int)index, log.Blocks[(int)index].Name, start, length, (int)page, units);
            units += blocks[i].Units;
        }
        return *(long*)(p + 32) == units && SizeOf(blocks.Length, units) == shared.Length
            ? new LazyRam(shared, blocks, log).WithInboxNoted()
            : throw Foreign();

        static RestoreRefusedException Foreign() =>
            new(
                Reasons.TargetNotWaiting,
                "another version of the agent began a restore in this QEMU: continue with that version, or restart QEMU"
            );
    }

    internal byte State(long unit) => Volatile.Read(ref _states[unit]);

    /// <summary>Claims a missing unit; only one claimant wins.</summary>
    internal bool TryClaim(long unit) =>
        State(unit) == Missing && Interlocked.CompareExchange(ref _states[unit], Claimed, Missing) == Missing;

    internal void MarkDone(LazyBlock block, long unit)
    {
        Volatile.Write(ref _states[unit], Done);
        Interlocked.Add(ref _pendingBytes, -block.UnitLength(unit));
        Interlocked.Decrement(ref _pendingUnits);
    }

    /// <summary>A claimed unit could not be read: a thread that touches it waits until it can be.</summary>
    internal void MarkBad(long unit) => Volatile.Write(ref _states[unit], Bad);

    /// <summary>Marks every bad unit as missing, so that it is tried again.</summary>
    internal void ForgiveBad()
    {
        for (long u = 0; u < Units; u++)
            _ = Interlocked.CompareExchange(ref _states[u], Missing, Bad);
    }

    /// <summary>
    /// Pages of a unit that are no longer the snapshot's: the guest discarded them, and they are zero until it writes them.
    /// </summary>
    internal ushort Removed(long unit) => Volatile.Read(ref _removed[unit]);

    /// <summary>Notes that the guest has discarded a range.</summary>
    internal void MarkRemoved(ulong start, ulong end)
    {
        foreach (LazyBlock b in _byAddress)
        {
            ulong from = Math.Max(start, b.Start),
                to = Math.Min(end, b.End);
            for (ulong at = from; at < to; at += (ulong)b.PageSize)
            {
                long unit = b.UnitOf(at);
                // Only the thread that reads events writes here.
                Volatile.Write(ref _removed[unit], (ushort)(_removed[unit] | PageBit(b, unit, at)));
            }
        }
    }

    private LazyRam WithInboxNoted()
    {
        for (int i = 0; i < InboxCapacity; i++)
        {
            if (Inbox[i].Event == UffdConstants.EventRemove)
                MarkRemoved(Inbox[i].RemoveStart, Inbox[i].RemoveEnd);
        }
        EmptyInbox();
        return this;
    }

    internal static ushort PageBit(LazyBlock b, long unit, ulong address) =>
        (ushort)(1 << (int)((address - b.UnitStart(unit)) / (ulong)b.PageSize));

    /// <summary>The block that holds an address of QEMU, or null.</summary>
    internal LazyBlock? Find(ulong address)
    {
        foreach (LazyBlock b in _byAddress)
        {
            if (address >= b.Start && address < b.End)
                return b;
        }
        return null;
    }

    internal LazyBlock BlockOf(long unit)
    {
        int i = _blocks.Length - 1;
        while (_blocks[i].FirstUnit > unit)
            i--;
        return _blocks[i];
    }

    /// <summary>
    /// Marks which units are zero by the index, and in stretches of what length; units that a dead process was loading are missing again.
    /// </summary>
    private void Classify(PageLogReader log)
    {
        List<(ulong, ulong)> registered = [];
        foreach (LazyBlock b in _blocks)
        {
            long zeroFrom = b.FirstUnit;
            ulong dataFrom = b.Start;
            for (long u = b.FirstUnit; u <= b.FirstUnit + b.Units; u++)
            {
                bool end = u == b.FirstUnit + b.Units;
                if (!end)
                {
                    // Most of a large guest's RAM was never touched, and costs nothing here.
                    long data = b.FirstUnit + log.NextStored(b.LogIndex, b.FirstGranule(u)) / (b.UnitSize / FormatV1.GranuleSize);
                    if (data > u)
                    {
                        u = Math.Min(data, b.FirstUnit + b.Units) - 1;
                        continue;
                    }
                    if (IsZero(log, b, u))
                        continue;
                }
                if ((ulong)(u - zeroFrom) * (ulong)b.UnitSize >= LongZeroes)
                {
                    new Span<byte>(_states + zeroFrom, (int)(u - zeroFrom)).Fill(Absent);
                    if (b.UnitStart(zeroFrom) > dataFrom)
                        registered.Add((dataFrom, b.UnitStart(zeroFrom)));
                    dataFrom = end ? b.End : b.UnitStart(u);
                }
                else
                {
                    new Span<byte>(_states + zeroFrom, (int)(u - zeroFrom)).Fill(Zero);
                }
                zeroFrom = u + 1;
                if (end || _states[u] == Done)
                    continue;
                _states[u] = Missing;
                _pendingUnits++;
                _pendingBytes += b.UnitLength(u);
            }
            if (b.End > dataFrom)
                registered.Add((dataFrom, b.End));
        }
        Registered = registered;
    }

    private static bool IsZero(PageLogReader log, LazyBlock b, long unit)
    {
        long first = b.FirstGranule(unit);
        for (int i = 0; i < b.Granules(unit); i++)
        {
            if (log.PageBitmap(b.LogIndex, first + i) != 0)
                return false;
        }
        return true;
    }

    private static long StatesAt(int blocks) => FormatV1.Align(HeaderSize + (long)blocks * EntrySize);

    private static long InboxAt(int blocks, long units) => RemovedAt(blocks, units) + FormatV1.Align(units * sizeof(ushort));

    private static long RemovedAt(int blocks, long units) => StatesAt(blocks) + FormatV1.Align(units);

    /// <inheritdoc/>
    public void Dispose() => _shared.Dispose();
}
