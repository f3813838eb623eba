using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.GuestAgent;

/// <summary>
/// Says that a freeze is ours: a named descriptor that QEMU keeps for us while the guest's file systems may be frozen. It is there as long
/// as QEMU is, whoever of us dies; the next agent on the same socket finds it, thaws the guest and leaves a freeze of somebody else alone.
/// </summary>
internal static class FreezeMark
{
    private const string Name = "agent-bgsnap-frozen";

    internal static void Put(IQmpMonitor qmp) => QemuMark.Put(qmp, Name);

    /// <summary>Removes the mark. Returns whether it was there.</summary>
    internal static bool Take(IQmpMonitor qmp) => QemuMark.TakeNote(qmp, Name);
}
