using Bgsnap.Qemu.Libvirt;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Qemu.GuestAgent;

/// <summary>
/// How to reach a guest agent: through the unix socket of its channel, or through libvirt, which owns the channels of its domains.
/// </summary>
/// <param name="by">The socket or command through which a person can reach the guest agent, for messages.</param>
/// <param name="connect">Connects, and checks that the guest agent answers.</param>
internal sealed class GuestAgentAddress(string by, Func<TimeSpan, CancellationToken, IGuestAgent> connect)
{
    /// <summary>A socket.</summary>
    public static implicit operator GuestAgentAddress(string socket) =>
        new(socket, (timeout, cancel) => GuestAgentClient.Connect(socket, timeout, cancel));

    /// <summary>The given socket, else the libvirt of the monitor; null: neither exists.</summary>
    internal static GuestAgentAddress? Of(string? socket, IQmpMonitor qmp) =>
        socket is not null ? socket
        : qmp is LibvirtMonitor libvirt
            ? new GuestAgentAddress("virsh qemu-agent-command", (timeout, _) => LibvirtGuestAgent.Connect(libvirt, timeout))
        : null;

    /// <summary>Connects, and checks that the guest agent answers to this connection.</summary>
    /// <exception cref="GuestAgentException">It does not answer.</exception>
    internal IGuestAgent Connect(TimeSpan timeout, CancellationToken cancel) => connect(timeout, cancel);

    /// <inheritdoc/>
    public override string ToString() => by;
}
