using System.Diagnostics;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Capture;

/// <summary>Puts all of guest RAM under write protection, most of it before the guest stops.</summary>
/// <remarks>
/// Protecting costs 0.04 ms per GiB of huge pages but 25 ms per GiB of small ones. So the agent protects small pages while the guest runs.
/// What the guest writes meanwhile is released at once, recorded, and protected again in rounds that get shorter, because protecting is
/// much faster than faulting. The stop window only has to protect the huge pages, the last few recorded granules and what was just
/// populated. Its length does not depend on the size of RAM.
/// </remarks>
internal sealed class WriteProtection(GuestRam ram, Userfaultfd uffd, PopulationScan scan, ProtectionNotes notes)
{
    private const int Rounds = 4;
    private const int FewNotes = 64;
    private const int NapMicroseconds = 100;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);
    private readonly List<(ulong Start, ulong Length)> _huge = [];
    private Action? _whileBusy;
    private readonly List<(GuestRam.Block Block, long Cluster)> _appeared = [];

    /// <summary>Registers every block.</summary>
    internal void Register()
    {
        foreach (GuestRam.Block b in ram.Blocks)
        {
            try
            {
                uffd.RegisterWriteProtect(b.Start, b.End - b.Start);
            }
            catch (LinuxException e) when (e.Errno == Errno.EBUSY)
            {
                throw new RefusedException(
                    Reasons.AlreadyTracked,
                    $"RAM block {b.Ram.Name} belongs to another userfaultfd: another capture, a restore that has not finished, or a "
                        + "migration of QEMU; wait until it ends"
                );
            }
            catch (LinuxException e) when (e.Errno == Errno.EINVAL)
            {
                throw new RefusedException(
                    Reasons.KernelTooOld,
                    $"the kernel cannot write-protect RAM block {b.Ram.Name} ({b.Ram.Kind}): {e.Message}"
                );
            }
        }
    }

    /// <summary>Protects ahead, while the guest runs and the fault thread serves.</summary>
    internal void ProtectAhead(CapturePipeline pipeline)
    {
        CollectHuge();
        ForEachRange(ClusterKind.Small, (start, length) =>
        {
            if (!pipeline.IsCancelled)
                Protect(start, length);
        });
        for (int round = 0; round < Rounds && notes.Count > FewNotes && !pipeline.IsCancelled; round++)
            ProtectNoted();
    }

    /// <summary>Protects the rest in the stop window, with no fault in service: nothing writes to RAM now.</summary>
    /// <param name="whileBusy">Reads events in place of the fault thread, which waits for this one.</param>
    internal void ProtectAtPointInTime(Action whileBusy)
    {
        _whileBusy = whileBusy;
        foreach ((ulong start, ulong length) in _huge)
            Protect(start, length);
        ProtectNoted();
        for (long g = ram.NextDiscarded(0); g >= 0; g = ram.NextDiscarded(g + 1))
        {
            GuestRam.Block b = ram.BlockOfCluster(g / GuestRam.GranulesPerCluster);
            if (ram.Kind(g / GuestRam.GranulesPerCluster) != ClusterKind.Absent)
                Protect(b.GranuleStart(g), (ulong)b.GranuleLength(g));
        }
        _appeared.Clear();
        scan.Rescan((b, c) => _appeared.Add((b, c)));
        foreach ((GuestRam.Block b, long c) in _appeared)
            Protect(b.ClusterStart(c), b.ClusterEnd(c) - b.ClusterStart(c));
        ram.BeginWindow();
    }

    /// <summary>Removes every protection; the guest needs nothing from the agent any more.</summary>
    internal void Unregister()
    {
        foreach (GuestRam.Block b in ram.Blocks)
            _ = uffd.TryUnregister(b.Start, b.End - b.Start);
    }

    /// <summary>Protects a range, and waits while QEMU discards memory: the kernel changes no protection until that has ended.</summary>
    private void Protect(ulong start, ulong length)
    {
        long began = Stopwatch.GetTimestamp();
        while (!uffd.TryProtect(start, length))
        {
            if (Stopwatch.GetElapsedTime(began) > Patience)
                throw new CaptureFailedException(
                    Reasons.MemoryDiscarded,
                    $"QEMU has been discarding memory for {Patience.TotalSeconds:0} s and its thread makes no progress (balloon or "
                        + "free page reporting); try again when the balloon is at rest"
                );
            _whileBusy?.Invoke();
            Nap.Microseconds(NapMicroseconds);
        }
    }

    private void ProtectNoted()
    {
        ReadOnlySpan<long> noted = notes.Take(out bool overflow);
        if (overflow)
        {
            ForEachRange(ClusterKind.Small, Protect);
            return;
        }
        for (int i = 0; i < noted.Length; )
        {
            GuestRam.Block b = ram.BlockOfCluster(noted[i] / GuestRam.GranulesPerCluster);
            int last = i;
            while (last + 1 < noted.Length && noted[last + 1] <= noted[last] + 1 && noted[last + 1] < b.FirstGranule + b.Granules)
                last++;
            ulong start = b.GranuleStart(noted[i]);
            Protect(start, b.GranuleStart(noted[last]) + (ulong)b.GranuleLength(noted[last]) - start);
            i = last + 1;
        }
    }

    private void CollectHuge() => ForEachRange(ClusterKind.Huge, (start, length) => _huge.Add((start, length)));

    /// <summary>Visits the maximal ranges of clusters of one kind.</summary>
    private void ForEachRange(ClusterKind kind, Action<ulong, ulong> visit)
    {
        foreach (GuestRam.Block b in ram.Blocks)
        {
            long end = b.FirstCluster + b.Clusters;
            for (long c = b.FirstCluster; c < end; c++)
            {
                if (ram.Kind(c) != kind)
                    continue;
                long first = c;
                while (c + 1 < end && ram.Kind(c + 1) == kind)
                    c++;
                visit(b.ClusterStart(first), b.ClusterEnd(c) - b.ClusterStart(first));
            }
        }
    }
}
