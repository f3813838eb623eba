using System.Globalization;
using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Restore.Instant;

/// <summary>
/// What QEMU holds for the agent while memory is loaded into a running guest: the userfaultfd, so that the guest waits instead of reading
/// zeroes if the agent dies, and the map of what is loaded, so that another agent process can continue.
/// </summary>
/// <param name="Uffd">Number of the userfaultfd in QEMU.</param>
/// <param name="State">Number of the memfd in QEMU; -1: QEMU holds no memfd.</param>
internal sealed record KeptDescriptors(int Uffd, int State)
{
    private const long SysClose = 3,
        SysMemfdCreate = 319;
    private const ulong MfdCloexec = 1,
        MfdAllowSealing = 2;
    private static ReadOnlySpan<byte> Name => "bgsnap-instant\0"u8;
    private const string StateLink = "/memfd:bgsnap-instant (deleted)";

    /// <summary>UFFD_FEATURE_INITIALIZED: the kernel's mark that UFFDIO_API has been called.</summary>
    private const ulong Enabled = 1UL << 31;

    /// <summary>The events that a restore needs. They also tell its context from those of captures and of QEMU itself.</summary>
    internal const UffdFeatures Features = UffdFeatures.EventRemove | UffdFeatures.EventUnmap;

    /// <summary>Creates both in QEMU during one hold, and runs <paramref name="whileHeld"/> in it.</summary>
    /// <param name="qmp">Its monitor.</param>
    /// <param name="process">Its process.</param>
    /// <param name="whileHeld">What else to do during the hold; a failure leaves nothing behind.</param>
    /// <param name="uffd">Our copy of the userfaultfd, enabled.</param>
    /// <param name="state">Our copy of the memfd, empty.</param>
    /// <exception cref="EngineUnavailableException">This machine or this QEMU does not allow it.</exception>
    internal static KeptDescriptors Make(
        IQmpMonitor qmp,
        CheckedProcess process,
        Action<RemoteThread> whileHeld,
        out Userfaultfd uffd,
        out SafeFileHandle state
    )
    {
        int memory = -1;
        SafeFileHandle? taken = null;
        Userfaultfd made = UserfaultfdSource.ObtainAndLeave(
            qmp,
            process,
            thread =>
            {
                long theirs = thread.Call(SysMemfdCreate, thread.Put(Name), MfdCloexec | MfdAllowSealing);
                if (theirs < 0)
                    throw new EngineUnavailableException(new LinuxException("make a memfd in QEMU", (int)-theirs).Message);
                memory = (int)theirs;
                try
                {
                    taken = process.Descriptor.GetDescriptor(memory);
                    whileHeld(thread);
                }
                catch
                {
                    thread.Call(SysClose, (ulong)theirs);
                    taken?.Dispose();
                    throw;
                }
            },
            out int theirUffd
        );
        TestHooks.After("held");
        KeptDescriptors kept = new(theirUffd, memory);
        if (made.TryEnable(Features))
        {
            (uffd, state) = (made, taken!);
            return kept;
        }
        kept.Close(process);
        made.Dispose();
        taken!.Dispose();
        throw new EngineUnavailableException("the kernel lacks userfaultfd's events for discarded memory (use Linux 4.11 or later)");
    }

    /// <summary>Finds what another agent process left in a QEMU; null: nothing that a restore could continue with.</summary>
    internal static KeptDescriptors? Find(ProcessEntry process)
    {
        (List<int> uffds, List<int> states) = Ours(process, fresh: false);
        return uffds.Count > 0 ? new KeptDescriptors(uffds[0], states.Count > 0 ? states[0] : -1) : null;
    }

    /// <summary>Closes what an agent process left in a waiting QEMU when it died before there was anything to continue.</summary>
    internal static void Sweep(CheckedProcess process)
    {
        (List<int> uffds, List<int> states) = Ours(process, fresh: true);
        if (uffds.Count + states.Count > 0)
            Close(process, [.. uffds, .. states]);
    }

    private static (List<int> Uffds, List<int> States) Ours(ProcessEntry process, bool fresh)
    {
        List<int> uffds = [],
            states = [];
        try
        {
            foreach (string link in process.Descriptors())
            {
                string? target = new FileInfo(link).LinkTarget;
                if (target != StateLink && target != "anon_inode:[userfaultfd]")
                    continue;
                int fd = int.Parse(Path.GetFileName(link), CultureInfo.InvariantCulture);
                if (target == StateLink)
                    states.Add(fd);
                else if (FeaturesOf(process, fd) is { } features && (features == (ulong)Features || (fresh && features == 0)))
                    uffds.Add(fd);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The process has ended, or we may not inspect it.
        }
        return (uffds, states);
    }

    /// <summary>Closes both in QEMU, so that the guest has nothing of ours left.</summary>
    /// <exception cref="LinuxException">QEMU cannot be held at the moment.</exception>
    internal void Close(CheckedProcess process) => Close(process, State >= 0 ? [Uffd, State] : [Uffd]);

    private static void Close(CheckedProcess process, IReadOnlyList<int> descriptors) =>
        RemoteThread.Hold(process, SyscallGadget.Find(process), thread =>
        {
            foreach (int fd in descriptors)
                thread.Call(SysClose, (ulong)fd);
        });

    private static ulong? FeaturesOf(ProcessEntry process, int fd)
    {
        // "API:\taa:features:known", features in hexadecimal.
        string? api = File.ReadLines(process.At($"fdinfo/{fd}")).FirstOrDefault(l => l.StartsWith("API:", StringComparison.Ordinal));
        return
            api?.Split(':') is [_, _, { } features, _]
            && ulong.TryParse(features, NumberStyles.HexNumber, CultureInfo.InvariantCulture, out ulong bits)
            ? bits & ~Enabled
            : null;
    }
}
