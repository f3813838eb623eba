using System.Globalization;
using Bgsnap.NodeAgent.Capture;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Restore.Instant;

/// <summary>
/// What QEMU holds for us while its memory follows its guest: the userfaultfd, so that our death makes the guest wait rather than read
/// zeroes, and the map of what is there, so that another process of ours can go on.
/// </summary>
/// <param name="Uffd">Number of the userfaultfd in QEMU.</param>
/// <param name="State">Number of the memfd in QEMU; -1: there is none.</param>
internal sealed record KeptDescriptors(int Uffd, int State)
{
    private const long SysClose = 3,
        SysMemfdCreate = 319;
    private const ulong MfdCloexec = 1,
        MfdAllowSealing = 2;
    private static ReadOnlySpan<byte> Name => "bgsnap-instant\0"u8;
    private const string StateLink = "/memfd:bgsnap-instant (deleted)";

    /// <summary>UFFD_FEATURE_INITIALIZED: the kernel's own note that UFFDIO_API has been called.</summary>
    private const ulong Enabled = 1UL << 31;

    /// <summary>The events that a restore lives on; also how its context is told from those of captures and of QEMU itself.</summary>
    internal const UffdFeatures Features = UffdFeatures.EventRemove | UffdFeatures.EventUnmap;

    /// <summary>Makes both in QEMU, in one hold, and does what else has to be done there.</summary>
    /// <param name="qmp">Its monitor.</param>
    /// <param name="process">Its process.</param>
    /// <param name="whileHeld">What else; a failure leaves nothing behind.</param>
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
        throw new EngineUnavailableException(
            "the kernel lacks the events of userfaultfd that tell of discarded memory (Linux 4.11 and later have them)"
        );
    }

    /// <summary>Looks for what another process of ours has left in a QEMU; null: nothing that could be gone on with.</summary>
    internal static KeptDescriptors? Find(ProcessEntry process)
    {
        (List<int> uffds, List<int> states) = Ours(process, fresh: false);
        return uffds.Count > 0 ? new KeptDescriptors(uffds[0], states.Count > 0 ? states[0] : -1) : null;
    }

    /// <summary>Closes in a QEMU that waits whatever one of us left that died before there was anything to go on with.</summary>
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
            // It has ended, or is not ours to look at.
        }
        return (uffds, states);
    }

    /// <summary>Closes both in QEMU: for the guest nothing of ours is there any more.</summary>
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
