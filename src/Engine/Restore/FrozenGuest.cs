using Bgsnap.Qemu.GuestAgent;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Engine.Restore;

/// <summary>
/// A guest that was captured quiesced resumes with its file systems still frozen; its programs block as soon as they write. The restore has
/// to thaw it.
/// </summary>
internal static class FrozenGuest
{
    /// <summary>Thaws a running guest if its snapshot may be of a frozen one.</summary>
    /// <param name="manifest">The snapshot.</param>
    /// <param name="address">The guest agent's address; null: not given.</param>
    /// <param name="guestState">The guest's state in QEMU's words.</param>
    /// <param name="patience">How long to try; a guest takes a while to respond after a restore.</param>
    /// <param name="thawed">Number of file systems that were thawed.</param>
    /// <returns>
    /// A message: why file systems may still be frozen, and the remedy. Null: nothing was frozen, or the guest is thawed.
    /// </returns>
    internal static string? Thaw(Manifest manifest, GuestAgentAddress? address, string guestState, TimeSpan patience, out int thawed)
    {
        thawed = 0;
        // A guest agent that did not answer in time may still have frozen the guest.
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
            thawed = ThawRetry.Run(address, null, patience);
            return null;
        }
        catch (GuestAgentException e)
        {
            return surely ? $"the guest was captured with its file systems frozen: {e.Message}" : null;
        }
    }
}
