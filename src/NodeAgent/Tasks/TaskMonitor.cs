using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>The way to the monitor of a task's VM: a socket, or a QEMU process whose monitor libvirt owns.</summary>
/// <param name="containerId">The container that QEMU runs in.</param>
internal sealed class TaskMonitor(string containerId) : IDisposable
{
    /// <summary>The container that QEMU runs in.</summary>
    internal string ContainerId => containerId;

    /// <summary>QEMU's socket; null: libvirt owns the monitor.</summary>
    internal SafeFileHandle? Socket { get; init; }

    /// <summary>QEMU's process, if libvirt owns its monitor.</summary>
    internal int Pid { get; init; }

    /// <summary>The address to connect to.</summary>
    internal MonitorAddress Address => new() { QmpSocket = OpenInRoot.PathOf(Socket), Pid = Pid };

    /// <inheritdoc/>
    public void Dispose() => Socket?.Dispose();
}
