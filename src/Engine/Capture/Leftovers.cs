using Bgsnap.Engine.Disks.Graph;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.GuestAgent;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Capture;

/// <summary>Everything that a killed agent may have left in a QEMU and its guest.</summary>
internal static class Leftovers
{
    /// <summary>
    /// Resumes a guest that the agent had stopped, thaws what it had frozen, then cleans up the block graph and the descriptors: the guest
    /// comes first.
    /// </summary>
    /// <param name="qmp">QEMU.</param>
    /// <param name="process">QEMU's process; null if it cannot be seen from here.</param>
    /// <param name="guestAgent">The guest agent's socket; null if it is libvirt's or not known. A freeze then stays for the next agent that
    /// knows the socket.</param>
    /// <exception cref="CaptureFailedException">Something could not be removed.</exception>
    internal static SweepResult Sweep(IQmpMonitor qmp, CheckedProcess? process, string? guestAgent)
    {
        TestHooks.After("sweeping");
        bool resumed = StoppedGuestMark.Sweep(qmp);
        _ = StrandedGuest.Free(qmp);
        TestHooks.After("looked-for-stopped");
        bool thawed = false;
        string? notThawed = null;
        try
        {
            thawed = GuestAgentAddress.Of(guestAgent, qmp) is { } address && ThawRetry.Leftover(qmp, address);
        }
        catch (GuestAgentException e)
        {
            notThawed = e.Message;
        }
        int removed =
            BackgroundSnapshotCapability.Sweep(qmp)
            + BlockLeftovers.Sweep(qmp, process)
            + DescriptorSweep.Run(qmp, process)
            + (GuestHold.Sweep(qmp) ? 1 : 0);
        return new SweepResult(removed, thawed, notThawed) { Resumed = resumed };
    }
}

/// <summary>What <see cref="Leftovers.Sweep"/> found.</summary>
/// <param name="Removed">How many things were removed from QEMU.</param>
/// <param name="Thawed">Whether a freeze of the guest's file systems was ended.</param>
/// <param name="NotThawed">Why a freeze could not be ended, as text for the message; null if no freeze is left.</param>
internal sealed record SweepResult(int Removed, bool Thawed, string? NotThawed)
{
    /// <summary>Whether it resumed the guest of an unfinished capture that was to leave the guest stopped.</summary>
    internal bool Resumed { get; init; }
}
