using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.Vocabulary;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Restore.Instant;

/// <summary>
/// The memory of a QEMU that is loaded while its guest runs: empty and registered, with a map of what is loaded. Created in a waiting QEMU,
/// or taken over from an agent process that died.
/// </summary>
internal sealed class LazyMemory : IDisposable
{
    /// <summary>Smaller blocks (firmware, tables) come with the stream, in a millisecond.</summary>
    private const ulong SmallestBlock = 16 << 20;
    private const int CloseTries = 20,
        CloseMilliseconds = 50;

    private readonly KeptDescriptors _kept;

    private LazyMemory(CheckedProcess process, KeptDescriptors kept, Userfaultfd uffd, LazyRam ram) =>
        (_process, _kept, Uffd, Ram) = (process, kept, uffd, ram);

    private readonly CheckedProcess _process;

    internal PidFd Process => _process.Descriptor;

    internal Userfaultfd Uffd { get; }

    internal LazyRam Ram { get; }

    /// <summary>The blocks that can be loaded while the guest runs.</summary>
    /// <exception cref="EngineUnavailableException">A large block cannot, or a device of the machine needs its memory to be
    /// present.</exception>
    internal static IReadOnlyList<RamBlock> Choose(RestoreTarget target, IReadOnlyList<RamBlockLayout> wanted)
    {
        try
        {
            Preflight.RefuseDevices(target.Qmp);
            Dictionary<string, RamBlock> there = target.RamBlocks().ToDictionary(b => b.Name);
            List<RamBlock> large = [];
            foreach (RamBlockLayout layout in wanted)
            {
                if (layout.UsedLength < SmallestBlock || !there.TryGetValue(layout.Name, out RamBlock? block))
                    continue;
                if (RamEmptying.AdviceFor(block.Kind) is null)
                    throw new EngineUnavailableException(
                        $"RAM block {block.Name} is a private mapping of a file ({block.Kind}), which cannot be emptied; give QEMU "
                            + "anonymous memory, or memory-backend-memfd with share=on"
                    );
                if (block.UsedLength == layout.UsedLength)
                    large.Add(block);
            }
            if (large.Count == 0)
                throw new EngineUnavailableException("this machine has no RAM block of 16 MiB or more");
            SharedRam.Refuse(target.Process.Held, large);
            HeldDevices.Refuse(target.Process.Held);
            if (large.FirstOrDefault(b => LockedMemory.IsLocked(target.Process.Held, b.Mapping)) is { } locked)
                throw new EngineUnavailableException(
                    $"RAM block {locked.Name} is locked in memory (-overcommit mem-lock=on, realtime, or locked memoryBacking of "
                        + "libvirt), and cannot be emptied; use another --mode, or start QEMU without it"
                );
            return large;
        }
        catch (RefusedException e)
        {
            throw new EngineUnavailableException(e.Message);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new EngineUnavailableException(
                $"the agent may not inspect QEMU's process: {e.Message} (run as root, or with CAP_SYS_PTRACE)"
            );
        }
    }

    /// <summary>Empties the blocks of a waiting QEMU, and registers them so that their faults come to the agent.</summary>
    /// <exception cref="EngineUnavailableException">It is not possible here; QEMU still waits, and nothing of ours is left in
    /// it.</exception>
    internal static LazyMemory Take(IQmpMonitor qmp, CheckedProcess process, IReadOnlyList<RamBlock> blocks, PageLogReader log)
    {
        Userfaultfd? uffd = null;
        KeptDescriptors? kept = null;
        try
        {
            KeptDescriptors.Sweep(process);
            kept = KeptDescriptors.Make(qmp, process, thread => RamEmptying.Empty(thread, blocks), out uffd, out SafeFileHandle state);
            TestHooks.After("emptied");
            using (state)
            {
                LazyBlock[] lazy = Number(blocks, log.Blocks);
                SharedState shared = SharedState.Create(state, LazyRam.SizeOf(lazy.Length, lazy[^1].FirstUnit + lazy[^1].Units));
                LazyRam ram = LazyRam.Create(shared, lazy, log);
                foreach ((ulong start, ulong end) in ram.Registered)
                    uffd.RegisterMissing(start, end - start);
                ram.Publish();
                TestHooks.After("registered");
                return new LazyMemory(process, kept, uffd, ram);
            }
        }
        catch (Exception e)
        {
            kept?.Close(process);
            uffd?.Dispose();
            if (e is LinuxException l)
                throw new EngineUnavailableException(l.Message);
            throw;
        }
    }

    /// <summary>Takes over what another agent process left; null: that process had not begun yet, and its remains were removed.</summary>
    /// <exception cref="RestoreRefusedException">That process is still at work, or was restoring something else.</exception>
    internal static LazyMemory? TakeOver(CheckedProcess process, KeptDescriptors kept, PageLogReader log)
    {
        SharedState? shared = null;
        Userfaultfd? uffd = null;
        try
        {
            if (kept.State >= 0)
            {
                using SafeFileHandle state = process.Descriptor.GetDescriptor(kept.State);
                shared = SharedState.TryOpen(state);
            }
            if (shared is null || !LazyRam.IsPublished(shared))
            {
                shared?.Dispose();
                kept.Close(process);
                return null;
            }
            if (LazyRam.SnapshotOf(shared) != log.Header.Id)
                throw new RestoreRefusedException(
                    Reasons.TargetNotWaiting,
                    $"snapshot {LazyRam.SnapshotOf(shared)} is being restored into this QEMU, not {log.Header.Id}: continue with that "
                        + "one, or restart QEMU"
                );
            uffd = new Userfaultfd(process.Descriptor.GetDescriptor(kept.Uffd));
            return new LazyMemory(process, kept, uffd, LazyRam.Open(shared, log));
        }
        catch (Exception e)
        {
            uffd?.Dispose();
            shared?.Dispose();
            if (e is LinuxException { Errno: Errno.EBUSY })
                throw new RestoreRefusedException(
                    Reasons.AlreadyRestoring,
                    $"another bgsnap-agent is restoring into this QEMU (process {process.Pid}) now: wait until it ends"
                );
            throw;
        }
    }

    /// <summary>Wakes all waiting threads: the faults that the earlier process had read died with it.</summary>
    internal void WakeAll()
    {
        foreach ((ulong start, ulong end) in Ram.Registered)
            Uffd.Wake(start, end - start);
    }

    /// <summary>The kind of a block's memory in the kernel: anonymous, or something else.</summary>
    internal RamKind KindOf(LazyBlock block) =>
        MemoryMapping.Read(_process).LastOrDefault(m => m.Start <= block.Start && m.End > block.Start) is { Inode: 0, IsShared: false }
            ? RamKind.Anonymous
            : RamKind.SharedMemory;

    /// <summary>Gives QEMU its memory back permanently once all data is loaded: zero pages stay missing, and read as zero.</summary>
    /// <returns>Why something of ours, harmless, is left in QEMU; null: nothing is left.</returns>
    internal string? Release()
    {
        foreach ((ulong start, ulong end) in Ram.Registered)
            _ = Uffd.TryUnregister(start, end - start);
        for (int tries = 1; ; tries++)
        {
            try
            {
                _kept.Close(_process);
                return null;
            }
            catch (Exception e) when (e is LinuxException or IOException or NotSupportedException or UnauthorizedAccessException)
            {
                // Another process traces QEMU at the moment, or QEMU has ended.
                if (tries == CloseTries)
                    return $"an unused userfaultfd is left in QEMU: {e.Message}";
                Thread.Sleep(CloseMilliseconds);
            }
        }
    }

    private static LazyBlock[] Number(IReadOnlyList<RamBlock> blocks, IReadOnlyList<RamBlockLayout> layouts)
    {
        List<LazyBlock> lazy = [];
        long unit = 0;
        for (int i = 0; i < layouts.Count; i++)
        {
            if (blocks.FirstOrDefault(b => b.Name == layouts[i].Name) is not { } block)
                continue;
            lazy.Add(new LazyBlock(i, block.Name, block.HostAddress, block.UsedLength, (int)block.PageSize, unit));
            unit += lazy[^1].Units;
        }
        return [.. lazy];
    }

    /// <summary>Lets go of it. Unless it was released, a thread that touches missing memory waits for the next agent process.</summary>
    public void Dispose()
    {
        Uffd.Dispose();
        Ram.Dispose();
    }
}
