using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Qemu.GuestAgent;

/// <summary>
/// Marks a freeze as ours: a named descriptor that QEMU keeps for us while the guest's file systems may be frozen. It lives as long as QEMU
/// does, whichever of our processes dies. The next agent on the same socket finds it and thaws the guest, but leaves another party's freeze
/// alone.
/// </summary>
internal static class FreezeMark
{
    private const string Name = "agent-bgsnap-frozen";

    internal static void Put(IQmpMonitor qmp) => QemuMark.Put(qmp, Name);

    /// <summary>Removes the mark. Returns whether it was there.</summary>
    internal static bool Take(IQmpMonitor qmp) => QemuMark.TakeNote(qmp, Name);
}
