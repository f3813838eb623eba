using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Restore;

/// <summary>
/// The way to the monitor of the QEMU that receives a snapshot. The agent knows QEMU's process before it sends a command, because QEMU may
/// be waiting for its memory and answer nobody.
/// </summary>
internal sealed class TargetMonitor : IDisposable
{
    // libvirt owns the monitor as soon as it begins to start the domain, and answers once it has finished that.
    private static readonly TimeSpan StartPatience = TimeSpan.FromSeconds(60);

    private readonly MonitorAddress _address;
    private UnixSocket? _socket;
    private IQmpMonitor? _open;

    private TargetMonitor(MonitorAddress address) => _address = address;

    /// <summary>QEMU's process; null: it is not visible from here, or has ended.</summary>
    internal CheckedProcess? Process { get; private init; }

    /// <summary>Finds the QEMU behind an address, without a command to it.</summary>
    /// <param name="address">The monitor's address.</param>
    /// <exception cref="QmpException">Nothing listens there.</exception>
    internal static TargetMonitor At(MonitorAddress address)
    {
        if (address.QmpSocket is { } path)
        {
            UnixSocket socket = QmpClient.Reach(path);
            return new TargetMonitor(address) { _socket = socket, Process = CheckedProcess.TryOpen(socket.PeerPid()) };
        }
        if (address.Pid != 0)
            return new TargetMonitor(address) { Process = CheckedProcess.TryOpen(address.Pid) };
        // For a domain name alone, only libvirt knows the process, and libvirt asks QEMU for it.
        IQmpMonitor open = address.Open(StartPatience);
        return new TargetMonitor(address) { _open = open, Process = CheckedProcess.TryOpen(open.PeerPid) };
    }

    /// <summary>Opens the monitor; may be called once.</summary>
    /// <returns>The monitor, which the caller owns from now on.</returns>
    internal IQmpMonitor Open()
    {
        if (_open is { } open)
        {
            _open = null;
            return open;
        }
        if (_socket is not { } socket)
            return _address.Open(StartPatience);
        _socket = null;
        return QmpClient.Negotiate(socket, _address.QmpSocket!);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _socket?.Dispose();
        _open?.Dispose();
        Process?.Dispose();
    }
}
