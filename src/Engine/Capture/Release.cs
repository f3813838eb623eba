using System.Diagnostics;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Capture;

/// <summary>Copy, prove, release: what both the sweep and the fault path do with the granules they claimed.</summary>
/// <remarks>
/// The order is the whole point. The guest may not write a byte before the granule is in a buffer. The buffer's content counts only if
/// every page of it is proved to be protected <em>after</em> it was read: no page gets its protection back in a window, so a page that is
/// protected then has been protected since the point in time. Anything that removes protection, known to the agent or not, ends the capture
/// here.
/// </remarks>
internal sealed unsafe class Release(
    CapturePipeline pipeline,
    GuestRam ram,
    IProtectedMemory memory,
    GranuleLedger ledger,
    CaptureProgress progress
)
{
    /// <summary>The longest time for which the kernel may refuse to unprotect because QEMU is discarding memory.</summary>
    internal static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    private const int NapMicroseconds = 100;

    /// <summary>Copies adjacent granules into a buffer and unprotects them in one call.</summary>
    /// <param name="block">The block of the granules.</param>
    /// <param name="granule">The first granule, claimed by the caller.</param>
    /// <param name="count">The number of granules.</param>
    /// <param name="buffer">A buffer with room for them.</param>
    /// <param name="whileBusy">Reads events, if the caller is the thread that reads them. Null: another thread does.</param>
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
            // The refusal ends once the event has been read and QEMU's thread has run again. That thread needs the processor on which we
            // would spin.
            if (pipeline.IsCancelled)
                throw new OperationCanceledException();
            if (began == 0)
                began = Stopwatch.GetTimestamp();
            else if (Stopwatch.GetElapsedTime(began) > Patience)
                throw new CaptureFailedException(
                    Reasons.MemoryDiscarded,
                    $"QEMU has been discarding memory for {Patience.TotalSeconds:0} s and its thread makes no progress (balloon or "
                        + "free page reporting); the agent released the guest. Try again when the balloon is at rest"
                );
            whileBusy?.Invoke();
            Nap.Microseconds(NapMicroseconds);
        }
    }
}
