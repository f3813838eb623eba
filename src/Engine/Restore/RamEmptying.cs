using Bgsnap.Linux;
using Bgsnap.Qemu.Vm;

namespace Bgsnap.Engine.Restore;

/// <summary>
/// Discards the content of a waiting QEMU's RAM, by system calls made in QEMU itself: pages that were preallocated, or touched when
/// firmware was loaded, must not stand in for those of the snapshot.
/// </summary>
internal static class RamEmptying
{
    private const long SysMadvise = 28;
    private const ulong MADV_DONTNEED = 4,
        MADV_REMOVE = 9;

    /// <summary>The advice that makes every page of a block missing; null: no advice does for its kind.</summary>
    /// <remarks>
    /// For a shared file the pages themselves must go: MADV_DONTNEED would only drop their mapping. A private mapping of a file reads as
    /// the file where it is empty, not as missing, so it cannot be emptied at all.
    /// </remarks>
    internal static ulong? AdviceFor(RamKind kind) =>
        kind switch
        {
            RamKind.Anonymous => MADV_DONTNEED,
            RamKind.SharedMemory or RamKind.SharedHugetlb => MADV_REMOVE,
            _ => null,
        };

    /// <summary>Empties blocks while QEMU's thread is held. No vCPU may have run, and no userfaultfd may be registered there yet.</summary>
    /// <param name="thread">A thread of QEMU, stopped.</param>
    /// <param name="blocks">The blocks; each has an <see cref="AdviceFor">advice</see>.</param>
    /// <exception cref="LinuxException">The kernel refused: locked memory (<c>-overcommit mem-lock=on</c>), or a sealed memfd.</exception>
    internal static void Empty(RemoteThread thread, IEnumerable<RamBlock> blocks)
    {
        foreach (RamBlock b in blocks)
        {
            ulong advice = AdviceFor(b.Kind)
                ?? throw new ArgumentException($"RAM block {b.Name} ({b.Kind}) cannot be emptied", nameof(blocks));
            long result = thread.Call(SysMadvise, b.HostAddress, b.UsedLength, advice);
            if (result < 0)
                throw new LinuxException($"empty RAM block {b.Name} in QEMU", (int)-result);
        }
    }
}
