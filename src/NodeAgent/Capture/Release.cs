using System.Diagnostics;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Store;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// Copy, prove, let go: what sweep and fault path both do with what they claimed.
/// </summary>
/// <remarks>
/// The order is the whole point. Not a byte may be written by the guest before the granule is in a buffer; and what is in the buffer counts
/// only if every page of it is proved to be protected <em>after</em> it was read: protection is never given back in a window, so that a
/// page that has it then has had it since the point in time. Whatever takes protection away, known to us or not, ends the capture here.
/// </remarks>
internal sealed unsafe class Release(
    CapturePipeline pipeline,
    GuestRam ram,
    IProtectedMemory memory,
    GranuleLedger ledger,
    CaptureProgress progress
)
{
    /// <summary>Longest time for which the kernel may refuse to unprotect because QEMU is discarding memory.</summary>
    internal static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    private const int NapMicroseconds = 100;

    /// <summary>Copies granules that lie one behind the other into a buffer and unprotects them in one piece.</summary>
    /// <param name="block">Their block.</param>
    /// <param name="granule">The first, claimed by the caller.</param>
    /// <param name="count">How many.</param>
    /// <param name="buffer">Has room for them.</param>
    /// <param name="whileBusy">The caller is the thread that reads events, and does so here. Null: another one does.</param>
    internal void CopyAndUnprotect(GuestRam.Block block, long granule, int count, Stage.Buffer buffer, Action? whileBusy = null)
    {
        ulong start = block.GranuleStart(granule);
        ulong end = Math.Min(block.End, start + (ulong)count * GuestRam.GranuleSize);
        byte* destination = buffer.Slot(buffer.Count);
        memory.Read(block, start, destination, (int)(end - start));
        memory.Prove(block, start, end);
        ledger.NoteCopied(block.StoredNumber(granule), count);
        for (int i = 0; i < count; i++)
            buffer.Add(block.StoredNumber(granule + i), block.GranuleLength(granule + i));
        Unprotect(start, end - start, whileBusy);
        ram.MarkDone(granule, count);
        progress.AddCopied((long)(end - start));
    }

    /// <summary>Lets the guest write to a range, however long QEMU takes over a discard.</summary>
    internal void Unprotect(ulong start, ulong length, Action? whileBusy)
    {
        long began = 0;
        while (!memory.TryUnprotect(start, length))
        {
            // The refusal ends when the event has been read and QEMU's thread has run again: it needs the processor that we would spin on.
            if (pipeline.IsCancelled)
                throw new OperationCanceledException();
            if (began == 0)
                began = Stopwatch.GetTimestamp();
            else if (Stopwatch.GetElapsedTime(began) > Patience)
                throw new CaptureFailedException(
                    "MemoryDiscarded",
                    $"QEMU has been discarding memory for {Patience.TotalSeconds:0} s and its thread does not get on (balloon or "
                        + "free page reporting); the guest was set free. Try again when the balloon is at rest"
                );
            whileBusy?.Invoke();
            Nap.Microseconds(NapMicroseconds);
        }
    }
}
