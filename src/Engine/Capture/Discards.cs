using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Vm;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Capture;

/// <summary>What it means when the guest, through QEMU, discards memory: before the point in time, and after it.</summary>
/// <remarks>
/// <code>
///   madvise(MADV_DONTNEED) in QEMU:   announced ─▶ we read it ─▶ QEMU continues ─▶ the page is gone, and its protection with it
///   fallocate(PUNCH_HOLE), then it:   the page is gone ─▶ announced ─▶ …
/// </code>
/// Private anonymous memory is announced first and loses its protection together with its content. The proof after each copy detects that,
/// so here only a discard of memory that no thread has begun to copy ends the capture. A file loses its content before the announcement,
/// and keeps protection markers in its place. There, any discard in the window ends the capture, because what was copied before the
/// announcement may already have been zeroes.
/// </remarks>
internal sealed class Discards(GuestRam ram, bool protectsHoles)
{
    /// <summary>Before the point in time: nothing is lost, but the range must be protected again in the stop window.</summary>
    internal void Before(ulong start, ulong end)
    {
        if (!protectsHoles)
            throw new CaptureFailedException(
                Reasons.MemoryDiscarded,
                "QEMU discarded memory while it was being protected (balloon); try again when the balloon is at rest"
            );
        for (int i = 0; i < ram.Blocks.Count; i++)
        {
            if (!Overlap(ram.Blocks[i], start, end, out long first, out long last))
                continue;
            for (long g = first; g <= last; g++)
                ram.MarkDiscarded(g);
        }
    }

    /// <summary>After the point in time.</summary>
    /// <exception cref="CaptureFailedException">Memory is being discarded that has not been copied, or was gone before the
    /// announcement.</exception>
    internal void InWindow(ulong start, ulong end)
    {
        for (int i = 0; i < ram.Blocks.Count; i++)
        {
            GuestRam.Block block = ram.Blocks[i];
            if (!Overlap(block, start, end, out long first, out long last))
                continue;
            for (long g = first; g <= last; g++)
            {
                long cluster = g / GuestRam.GranulesPerCluster;
                ClusterKind kind = ram.Kind(cluster);
                if (kind == ClusterKind.Absent)
                    continue;
                long holder = kind == ClusterKind.Huge ? cluster * GuestRam.GranulesPerCluster : g;
                if (block.Ram.Kind != RamKind.Anonymous || ram.State(holder) == GuestRam.Pending)
                    throw new CaptureFailedException(
                        Reasons.MemoryDiscarded,
                        $"QEMU discarded memory of RAM block {block.Ram.Name} that may not have been copied yet (balloon or free "
                            + "page reporting); try again when the balloon is at rest, or without free-page-reporting"
                    );
            }
        }
    }

    private static bool Overlap(GuestRam.Block block, ulong start, ulong end, out long first, out long last)
    {
        (start, end) = (Math.Max(start, block.Start), Math.Min(end, block.End));
        (first, last) = start < end ? (GuestRam.GranuleOf(block, start), GuestRam.GranuleOf(block, end - 1)) : (0, -1);
        return start < end;
    }
}
