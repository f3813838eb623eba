using System.Collections;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Streams;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Restore;

/// <summary>
/// Finds the granules of a waiting QEMU's RAM that have no page yet and so read as zero: zero pages need not be sent there.
/// </summary>
/// <remarks>
/// Only what the kernel reports counts. RAM of a fresh QEMU is not simply zero: ROMs, kernels and whatever <c>-device loader</c> loads are
/// there before the stream arrives. But a page that does not exist reads as zero: in anonymous memory (no entry in the page tables, nothing
/// swapped) and in a shared memfd (a hole in its file). In a QEMU that waits with <c>-incoming defer</c> no vCPU runs that could change it.
/// Memory of any other kind counts as existing, and so does all memory that the agent cannot inspect. When a zero page is sent, QEMU first
/// checks whether its page is zero already, and reading a hole of a memfd allocates it.
/// </remarks>
internal sealed class EmptyRam
{
    private readonly BitArray?[] _exists;

    private EmptyRam(int blocks) => _exists = new BitArray?[blocks];

    /// <summary>Inspects the memory of a waiting QEMU.</summary>
    /// <param name="target">The QEMU.</param>
    /// <param name="blocks">The stream's blocks.</param>
    internal static EmptyRam Of(RestoreTarget target, IReadOnlyList<(string Name, ulong UsedLength)> blocks)
    {
        CheckedProcess process = target.Process.Held;
        EmptyRam empty = new(blocks.Count);
        try
        {
            Dictionary<string, RamBlock> there = target.RamBlocks().ToDictionary(b => b.Name);
            using Pagemap pagemap = Pagemap.Open(process);
            for (int i = 0; i < blocks.Count; i++)
            {
                if (there.TryGetValue(blocks[i].Name, out RamBlock? block))
                    empty._exists[i] = Existing(
                        block,
                        pagemap,
                        process,
                        Math.Min(block.UsedLength, blocks[i].UsedLength),
                        blocks[i].UsedLength
                    );
            }
        }
        catch (Exception e) when (e is RefusedException or IOException or UnauthorizedAccessException)
        {
            // The block cannot be found, or we may not inspect it: every page is sent.
        }
        return empty;
    }

    /// <summary>Whether a granule (65536 bytes of a block of the stream) has no page at all in the target.</summary>
    internal bool IsZero(int block, long granule) => _exists[block] is { } exists && !exists[(int)granule];

    private static BitArray? Existing(RamBlock block, Pagemap pagemap, CheckedProcess process, ulong looked, ulong length)
    {
        // Beyond the block's present length in the target: QEMU creates that part when it loads the stream, and it is sent in full.
        BitArray exists = new(checked((int)((length + MigrationFormat.GranuleSize - 1) / MigrationFormat.GranuleSize)));
        if (looked < length)
            Mark(exists, looked, length);
        switch (block.Kind)
        {
            case RamKind.Anonymous:
                pagemap.Scan(block.HostAddress, block.HostAddress + looked, (from, to, _) =>
                    Mark(exists, from - block.HostAddress, to - block.HostAddress)
                );
                return exists;
            case RamKind.SharedMemory:
                using (SafeFileHandle file = block.OpenFile(process))
                {
                    ulong at = block.FileOffset;
                    SparseFile.VisitData(file, (long)at, (long)(at + looked), (from, to) => Mark(exists, (ulong)from - at, (ulong)to - at));
                }
                return exists;
            default:
                return null;
        }
    }

    private static void Mark(BitArray exists, ulong from, ulong to)
    {
        for (ulong granule = from / MigrationFormat.GranuleSize; granule * MigrationFormat.GranuleSize < to; granule++)
            exists[(int)granule] = true;
    }
}
