using Bgsnap.NodeAgent.GuestAgent;
using Bgsnap.NodeAgent.Store;

namespace Bgsnap.NodeAgent.Restore;

/// <summary>
/// A guest that was captured quiesced wakes up as it was: its file systems frozen, its programs waiting as soon as they write. Whoever
/// restores it has to thaw it.
/// </summary>
internal static class FrozenGuest
{
    /// <summary>Thaws a guest that runs, if its snapshot may be of a frozen one.</summary>
    /// <param name="manifest">The snapshot.</param>
    /// <param name="address">Where the guest agent is; null: nobody said.</param>
    /// <param name="guestState">State of the guest, as QEMU calls it.</param>
    /// <param name="patience">How long to try; a guest that wakes up takes its time.</param>
    /// <param name="thawed">How many file systems were thawed.</param>
    /// <returns>Why its file systems may still be frozen and what helps, for people; null: nothing was frozen, or it is thawed.</returns>
    internal static string? Thaw(Manifest manifest, GuestAgentAddress? address, string guestState, TimeSpan patience, out int thawed)
    {
        thawed = 0;
        // A guest agent that did not answer in time may have frozen all the same.
        if (manifest.Capture.Quiesce is not (nameof(QuiesceOutcome.GuestAgent) or nameof(QuiesceOutcome.QuiesceFailed)))
            return null;
        bool surely = manifest.Capture.Quiesce == nameof(QuiesceOutcome.GuestAgent);
        if (address is null || guestState != "running")
        {
            string why = address is null ? "no guest agent's socket was named" : $"it does not run yet ({guestState})";
            return surely
                ? $"the guest was captured with its file systems frozen and was not thawed: {why}. Run guest-fsfreeze-thaw through "
                    + "its guest agent, or 'fsfreeze -u' in the guest"
                : null;
        }
        try
        {
            thawed = SureThaw.Run(address, null, patience);
            return null;
        }
        catch (GuestAgentException e)
        {
            return surely ? $"the guest was captured with its file systems frozen: {e.Message}" : null;
        }
    }
}
