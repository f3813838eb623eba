using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.Qemu.Vm;

namespace Bgsnap.Engine.Restore.Instant;

/// <summary>
/// Turns the small pages of a restored guest into huge pages once all memory is loaded. The rate is limited, because the guest waits for
/// the pages that the kernel is copying together.
/// </summary>
/// <remarks>Only stretches that are data from end to end: the kernel would fill holes, and zero pages must cost nothing.</remarks>
internal static class Collapse
{
    // The kernel takes some 3.7 s of processor time per GiB to copy pages together, so this is about half a processor.
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
