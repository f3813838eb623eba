using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// Copy, then let go: what sweep and fault path both do with what they claimed. The order is the whole point: not a byte
/// may be written by the guest before the granule is in a buffer.
/// </summary>
internal sealed unsafe class Release(GuestRam ram, RamReader reader, Userfaultfd uffd, CaptureProgress progress)
{
    /// <summary>Copies granules that lie one behind the other into a buffer and unprotects them in one piece.</summary>
    internal void CopyAndUnprotect(GuestRam.Block block, long granule, int count, Stage.Buffer buffer, Action? whileBusy = null)
    {
        ulong start = block.GranuleStart(granule);
        ulong end = Math.Min(block.End, start + (ulong)count * GuestRam.GranuleSize);
        byte* destination = buffer.Slot(buffer.Count);
        for (int i = 0; i < count; i++)
            buffer.Add(block.StoredNumber(granule + i), block.GranuleLength(granule + i));
        reader.Read(block, start, destination, (int)(end - start));
        uffd.Unprotect(start, end - start, whileBusy);
        ram.MarkDone(granule, count);
        progress.AddCopied((long)(end - start));
    }
}
