using Bgsnap.NodeAgent.Disks.Graph;
using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>Everything that an agent which was killed may have left in a QEMU, the guest first.</summary>
internal static class Leftovers
{
    /// <summary>Lets a guest run that was stopped by us, then puts the block graph and the descriptors in order.</summary>
    /// <returns>How many things were removed.</returns>
    /// <exception cref="CaptureFailedException">Something could not be removed.</exception>
    internal static int Sweep(QmpClient qmp, int pid)
    {
        StoppedGuestMark.Sweep(qmp);
        return BlockLeftovers.Sweep(qmp) + DescriptorSweep.Run(qmp, pid);
    }
}
