using Bgsnap.NodeAgent.Libvirt;
using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.GuestAgent;

/// <summary>By which way a guest's agent is reached: the unix socket of its channel, or libvirt, which owns that of its domains.</summary>
/// <param name="by">What a command can be said through, for people.</param>
/// <param name="connect">Connects, and sees that somebody in the guest answers.</param>
internal sealed class GuestAgentAddress(string by, Func<TimeSpan, CancellationToken, IGuestAgent> connect)
{
    /// <summary>A socket.</summary>
    public static implicit operator GuestAgentAddress(string socket) =>
        new(socket, (timeout, cancel) => GuestAgentClient.Connect(socket, timeout, cancel));

    /// <summary>The socket that was named, else the monitor's libvirt; null: neither is there.</summary>
    internal static GuestAgentAddress? Of(string? socket, IQmpMonitor qmp) =>
        socket is not null ? socket
        : qmp is LibvirtMonitor libvirt
            ? new GuestAgentAddress("virsh qemu-agent-command", (timeout, _) => LibvirtGuestAgent.Connect(libvirt, timeout))
        : null;

    /// <summary>Connects, and sees that somebody in the guest answers to what we say now.</summary>
    /// <exception cref="GuestAgentException">Nobody does.</exception>
    internal IGuestAgent Connect(TimeSpan timeout, CancellationToken cancel) => connect(timeout, cancel);

    /// <inheritdoc/>
    public override string ToString() => by;
}
