using System.Runtime.CompilerServices;
using Bgsnap.Linux;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Engine.Capture;

/// <summary>What kind of memory a 2 MiB cluster of guest RAM was when the capture looked at it.</summary>
internal enum ClusterKind : byte
{
    /// <summary>Never populated: zero by definition, never read, never protected.</summary>
    Absent = 0,

    /// <summary>4 KiB pages: released 64 KiB at a time when the guest waits.</summary>
    Small = 1,

    /// <summary>One huge page: copied and released whole, because releasing a part would split it permanently.</summary>
    Huge = 2,
}

/// <summary>
/// The map of a capture: where each granule of guest RAM is, and whether it has been copied yet.
/// </summary>
/// <remarks>
/// A granule is 64 KiB; a cluster is 32 granules (2 MiB, one huge page). Granules are numbered across all blocks. Each block begins at a
/// multiple of 32, so that a cluster never spans two blocks. One byte per granule is the whole bookkeeping; a huge cluster keeps its state
/// in its first granule. All memory is native and allocated here.
/// </remarks>
internal sealed unsafe class GuestRam : IDisposable
{
    internal const int GranuleSize = FormatV1.GranuleSize;
    internal const int GranulesPerCluster = 32;
    internal const int ClusterSize = GranuleSize * GranulesPerCluster;

    internal const byte Pending = 0,
        Claimed = 1,
        Done = 2,
        Discarded = 3;

    private readonly Block[] _blocks;
    private readonly Block[] _byAddress;
    private readonly byte* _states;
    private readonly byte* _kinds;
    private readonly nuint _stateBytes;
    private readonly nuint _kindBytes;
    private long _pendingGranules;

    internal GuestRam(IReadOnlyList<RamBlock> blocks)
    {
        _blocks = new Block[blocks.Count];
        long granule = 0,
            stored = 0;
        for (int i = 0; i < blocks.Count; i++)
        {
            RamBlock b = blocks[i];
            long granules = (long)((b.UsedLength + GranuleSize - 1) / GranuleSize);
            _blocks[i] = new Block(i, b, granule, granules, stored);
            granule += (granules + GranulesPerCluster - 1) / GranulesPerCluster * GranulesPerCluster;
            stored += granules;
        }
        Granules = granule;
        Clusters = granule / GranulesPerCluster;
        _byAddress = [.. _blocks.OrderBy(b => b.Start)];
        _stateBytes = (nuint)Math.Max(granule, 1);
        _kindBytes = (nuint)Math.Max(Clusters, 1);
        _states = NativeMemoryMap.Allocate(_stateBytes);
        _kinds = NativeMemoryMap.Allocate(_kindBytes);
    }

    /// <summary>A RAM block in this map.</summary>
    /// <param name="Index">Its index in the list of blocks.</param>
    /// <param name="Ram">The block.</param>
    /// <param name="FirstGranule">Number of its first granule in this map, a multiple of 32.</param>
    /// <param name="Granules">How many granules it has; the last one may be short.</param>
    /// <param name="FirstStored">Number of its first granule in the page log's index, which has no gaps.</param>
    internal sealed record Block(int Index, RamBlock Ram, long FirstGranule, long Granules, long FirstStored)
    {
        internal ulong Start => Ram.HostAddress;
        internal ulong End => Ram.HostAddress + Ram.UsedLength;
        internal long FirstCluster => FirstGranule / GranulesPerCluster;
        internal long Clusters => (Granules + GranulesPerCluster - 1) / GranulesPerCluster;

        internal ulong ClusterStart(long cluster) => Start + (ulong)(cluster - FirstCluster) * ClusterSize;

        internal ulong ClusterEnd(long cluster) => Math.Min(End, ClusterStart(cluster) + ClusterSize);

        internal ulong GranuleStart(long granule) => Start + (ulong)(granule - FirstGranule) * GranuleSize;

        internal int GranuleLength(long granule) => (int)Math.Min(GranuleSize, End - GranuleStart(granule));

        internal long StoredNumber(long granule) => FirstStored + (granule - FirstGranule);

        /// <summary>Huge pages are possible only where block offsets and addresses have the same alignment.</summary>
        internal bool IsClusterAligned => Start % ClusterSize == 0;
    }

    internal IReadOnlyList<Block> Blocks => _blocks;

    /// <summary>Number of granules, including those that only pad a block's last cluster.</summary>
    internal long Granules { get; }

    internal long Clusters { get; }

    /// <summary>Granules not copied yet.</summary>
    internal long PendingGranules => Volatile.Read(ref _pendingGranules);

    /// <summary>Number of granules to copy, fixed when the window began.</summary>
    internal long GranulesToCopy { get; private set; }

    /// <summary>Bytes under protection when the window began.</summary>
    internal long ProtectedBytes { get; private set; }

    internal ClusterKind Kind(long cluster) => (ClusterKind)_kinds[cluster];

    internal void SetKind(long cluster, ClusterKind kind) => _kinds[cluster] = (byte)kind;

    internal byte State(long granule) => Volatile.Read(ref _states[granule]);

    /// <summary>Claims a granule for copying (for a huge cluster, its first granule); only one thread succeeds.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal bool TryClaim(long granule) =>
        Volatile.Read(ref _states[granule]) == Pending && Interlocked.CompareExchange(ref _states[granule], Claimed, Pending) == Pending;

    /// <summary>Marks granules as copied and released.</summary>
    internal void MarkDone(long granule, int count)
    {
        new Span<byte>(_states + granule, count).Fill(Done);
        Interlocked.Add(ref _pendingGranules, -count);
    }

    /// <summary>Before the point in time: records that the granule's memory was discarded, and its protection with it.</summary>
    internal void MarkDiscarded(long granule) => Volatile.Write(ref _states[granule], Discarded);

    /// <summary>Finds the next granule marked by <see cref="MarkDiscarded"/>; -1 if no granule is marked.</summary>
    internal long NextDiscarded(long from)
    {
        // SAFETY: the states are Granules bytes; the slices below stay inside.
        const int stretch = 1 << 30;
        for (long at = from; at < Granules; at += stretch)
        {
            int found = new ReadOnlySpan<byte>(_states + at, (int)Math.Min(stretch, Granules - at)).IndexOf(Discarded);
            if (found >= 0)
                return at + found;
        }
        return -1;
    }

    /// <summary>At the point in time: marks absent granules as done and all others as pending.</summary>
    internal void BeginWindow()
    {
        long pending = 0,
            bytes = 0;
        foreach (Block b in _blocks)
        {
            for (long c = b.FirstCluster; c < b.FirstCluster + b.Clusters; c++)
            {
                long first = c * GranulesPerCluster;
                int count = GranulesIn(b, c);
                bool absent = Kind(c) == ClusterKind.Absent;
                new Span<byte>(_states + first, GranulesPerCluster).Fill(Done);
                if (absent)
                    continue;
                new Span<byte>(_states + first, count).Clear();
                pending += count;
                bytes += (long)(b.ClusterEnd(c) - b.ClusterStart(c));
            }
        }
        (ProtectedBytes, GranulesToCopy) = (bytes, pending);
        Volatile.Write(ref _pendingGranules, pending);
    }

    /// <summary>Whether the cluster has a granule that no thread has claimed yet.</summary>
    internal bool HasPending(long cluster)
    {
        byte* first = _states + cluster * GranulesPerCluster;
        return Kind(cluster) == ClusterKind.Huge
            ? Volatile.Read(ref *first) == Pending
            : new ReadOnlySpan<byte>(first, GranulesPerCluster).Contains(Pending);
    }

    internal static int GranulesIn(Block b, long cluster) =>
        (int)Math.Min(GranulesPerCluster, b.FirstGranule + b.Granules - cluster * GranulesPerCluster);

    /// <summary>The block that contains an address in QEMU, or null.</summary>
    internal Block? Find(ulong address)
    {
        int low = 0,
            high = _byAddress.Length - 1;
        while (low <= high)
        {
            int mid = (low + high) / 2;
            Block b = _byAddress[mid];
            if (address < b.Start)
                high = mid - 1;
            else if (address >= b.End)
                low = mid + 1;
            else
                return b;
        }
        return null;
    }

    internal Block BlockOfCluster(long cluster)
    {
        int low = 0,
            high = _blocks.Length - 1;
        while (low < high)
        {
            int mid = (low + high + 1) / 2;
            if (_blocks[mid].FirstCluster <= cluster)
                low = mid;
            else
                high = mid - 1;
        }
        return _blocks[low];
    }

    internal static long GranuleOf(Block b, ulong address) => b.FirstGranule + (long)((address - b.Start) / GranuleSize);

    /// <inheritdoc/>
    public void Dispose()
    {
        NativeMemoryMap.Free(_states, _stateBytes);
        NativeMemoryMap.Free(_kinds, _kindBytes);
    }
}
