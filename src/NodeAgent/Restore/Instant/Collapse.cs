using Bgsnap.NodeAgent.Capture;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Vm;

namespace Bgsnap.NodeAgent.Restore.Instant;

/// <summary>
/// Gives a guest whose memory came in small pages its huge pages back, when all of it is there: at a limited rate, since the guest waits
/// for what is being copied together.
/// </summary>
/// <remarks>Only stretches that are data from end to end: the kernel would fill holes, and what is zero shall cost nothing.</remarks>
internal static class Collapse
{
    // Copying together takes a processor some 3.7 s per GiB; so this is about half of one.
    private const long BytesPerSecond = 128 << 20;
    private const int FailuresInARow = 16;

    /// <summary>Makes huge pages of anonymous memory.</summary>
    /// <returns>Bytes that lie in huge pages now.</returns>
    internal static long Run(LazyMemory memory, CancellationToken cancel)
    {
        long made = 0;
        int failed = 0;
        BandwidthLimit limit = new(BytesPerSecond);
        foreach (LazyBlock block in memory.Ram.Blocks.Where(b => memory.KindOf(b) == RamKind.Anonymous))
        {
            for (
                ulong at = (block.Start + HugePages.Size - 1) & ~(HugePages.Size - 1);
                at + HugePages.Size <= block.End;
                at += HugePages.Size
            )
            {
                if (cancel.IsCancellationRequested || failed == FailuresInARow)
                    return made;
                if (!IsAllData(memory.Ram, block, at))
                    continue;
                int errno = HugePages.TryMake(memory.Process, at);
                failed = errno == 0 ? 0 : failed + 1;
                if (errno == 0)
                    made += (long)HugePages.Size;
                limit.Spend((long)HugePages.Size, cancel);
            }
        }
        return made;
    }

    private static bool IsAllData(LazyRam ram, LazyBlock block, ulong at)
    {
        for (ulong a = at; a < at + HugePages.Size; a += (ulong)block.UnitSize)
        {
            long unit = block.UnitOf(a);
            if (ram.State(unit) != LazyRam.Done || ram.Removed(unit) != 0)
                return false;
        }
        return ram.State(block.UnitOf(at + HugePages.Size - 1)) == LazyRam.Done;
    }
}
