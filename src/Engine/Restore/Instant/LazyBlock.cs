using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Engine.Restore.Instant;

/// <summary>A RAM block that is loaded while the guest runs.</summary>
/// <param name="LogIndex">Its index in the page log.</param>
/// <param name="Name">QEMU's name of it.</param>
/// <param name="Start">Its first address in QEMU.</param>
/// <param name="Length">Bytes.</param>
/// <param name="PageSize">Bytes of a page of its memory, at most 2 MiB.</param>
/// <param name="FirstUnit">Number of its first unit.</param>
/// <remarks>
/// A unit is what is loaded at once: a granule of 64 KiB, or a huge page of hugetlbfs, which the kernel fills as a whole or not at all.
/// </remarks>
internal sealed record LazyBlock(int LogIndex, string Name, ulong Start, ulong Length, int PageSize, long FirstUnit)
{
    /// <summary>Bytes of a unit; the last one may be short.</summary>
    internal int UnitSize { get; } = Math.Max(PageSize, FormatV1.GranuleSize);

    internal long Units { get; } =
        (long)((Length + (ulong)Math.Max(PageSize, FormatV1.GranuleSize) - 1) / (ulong)Math.Max(PageSize, FormatV1.GranuleSize));

    internal ulong End => Start + Length;

    internal long UnitOf(ulong address) => FirstUnit + (long)((address - Start) / (ulong)UnitSize);

    internal ulong UnitStart(long unit) => Start + (ulong)(unit - FirstUnit) * (ulong)UnitSize;

    internal int UnitLength(long unit) => (int)Math.Min((ulong)UnitSize, End - UnitStart(unit));

    /// <summary>First granule of a unit in the page log's block.</summary>
    internal long FirstGranule(long unit) => (unit - FirstUnit) * (UnitSize / FormatV1.GranuleSize);

    /// <summary>Granules of a unit.</summary>
    internal int Granules(long unit) => (UnitLength(unit) + FormatV1.GranuleSize - 1) / FormatV1.GranuleSize;
}
