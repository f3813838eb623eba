using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Vm;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Capture;

/// <summary>What an error of a call on QEMU's memory means if QEMU is no longer what it was when the capture looked at it.</summary>
/// <remarks>
/// <code>
///   memory was unplugged    userfaultfd EINVAL, ENOENT, ENOMEM · process_vm_readv EFAULT · the memory's file ENOENT
///   QEMU has ended          userfaultfd, process_vm_readv, pagemap ESRCH · ptrace EPERM of a zombie · /proc ENOENT
/// </code>
/// A kernel that is too old, a missing right and another tracker give the same error numbers. So before a capture blames one of these, it
/// looks at QEMU.
/// </remarks>
internal static class MemoryChange
{
    /// <summary>What happened to QEMU; null if QEMU has not changed and the error means what it says.</summary>
    /// <param name="error">Why the capture ends.</param>
    /// <param name="process">QEMU's process.</param>
    /// <param name="blocks">QEMU's RAM as it was found; empty if not looked for yet.</param>
    internal static CaptureFailedException? Behind(Exception error, CheckedProcess process, IReadOnlyList<RamBlock> blocks)
    {
        if (error is not (LinuxException or EngineUnavailableException or RefusedException))
            return null;
        IReadOnlyList<MemoryMapping>? maps = TryRead(process);
        // A process that ends gives up its memory first; for a moment it is still there, without any.
        if (process.Descriptor.HasEnded() || maps is { Count: 0 })
            return new CaptureFailedException(Reasons.QemuGone, $"QEMU ended during the capture ({error.Message})", error);
        return maps is not null && FirstGone(maps, blocks) is { } gone
            ? new CaptureFailedException(
                Reasons.RamUnmapped,
                $"QEMU unmapped RAM block {gone.Name} during the capture (memory or a device was unplugged?); try again",
                error
            )
            : null;
    }

    private static IReadOnlyList<MemoryMapping>? TryRead(CheckedProcess process)
    {
        try
        {
            return MemoryMapping.Read(process);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>The first block that is no longer mapped from end to end; null if all are.</summary>
    internal static RamBlock? FirstGone(IReadOnlyList<MemoryMapping> maps, IReadOnlyList<RamBlock> blocks) =>
        blocks.FirstOrDefault(b => !IsMapped(maps, b));

    private static bool IsMapped(IReadOnlyList<MemoryMapping> maps, RamBlock block)
    {
        (ulong covered, ulong end) = (block.HostAddress, block.HostAddress + block.UsedLength);
        foreach (MemoryMapping m in maps)
        {
            if (m.End <= covered)
                continue;
            if (m.Start > covered || m.Inode != block.Mapping.Inode || m.IsShared != block.Mapping.IsShared)
                return false;
            covered = m.End;
            if (covered >= end)
                return true;
        }
        return false;
    }
}
