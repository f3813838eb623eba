using Bgsnap.NodeAgent.Disks.Graph;
using Bgsnap.NodeAgent.GuestAgent;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>Everything that an agent which was killed may have left in a QEMU and its guest.</summary>
internal static class Leftovers
{
    /// <summary>
    /// Lets a guest run that was stopped by us, thaws what was frozen by us, then puts the block graph and the descriptors in order: the
    /// guest first.
    /// </summary>
    /// <param name="qmp">QEMU.</param>
    /// <param name="process">Its process; null: it cannot be seen from here.</param>
    /// <param name="guestAgent">The guest agent's socket; null: it is libvirt's, or none is known, and a freeze stays for the next one who
    /// knows.</param>
    /// <exception cref="CaptureFailedException">Something could not be removed.</exception>
    internal static Swept Sweep(IQmpMonitor qmp, CheckedProcess? process, string? guestAgent)
    {
        TestHooks.After("sweeping");
        bool resumed = StoppedGuestMark.Sweep(qmp);
        _ = StrandedGuest.Free(qmp);
        TestHooks.After("looked-for-stopped");
        bool thawed = false;
        string? notThawed = null;
        try
        {
            thawed = GuestAgentAddress.Of(guestAgent, qmp) is { } address && SureThaw.Leftover(qmp, address);
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
        return new Swept(removed, thawed, notThawed) { Resumed = resumed };
    }
}

/// <summary>What <see cref="Leftovers.Sweep"/> found.</summary>
/// <param name="Removed">How many things were removed from QEMU.</param>
/// <param name="Thawed">A freeze of the guest's file systems was ended.</param>
/// <param name="NotThawed">Why a freeze could not be ended, for people; null: none is left.</param>
internal sealed record Swept(int Removed, bool Thawed, string? NotThawed)
{
    /// <summary>The guest of a capture that was to leave it stopped, and did not come to its end, was resumed.</summary>
    internal bool Resumed { get; init; }
}
