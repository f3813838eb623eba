using Bgsnap.NodeAgent.Capture;
using Bgsnap.NodeAgent.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>The way to the monitor of a task's VM: a socket, or a process behind which libvirt is.</summary>
/// <param name="containerId">The container that QEMU runs in.</param>
internal sealed class TaskMonitor(string containerId) : IDisposable
{
    /// <summary>The container that QEMU runs in.</summary>
    internal string ContainerId => containerId;

    /// <summary>QEMU's socket; null: its monitor is libvirt's.</summary>
    internal SafeFileHandle? Socket { get; init; }

    /// <summary>QEMU's process, where its monitor is libvirt's.</summary>
    internal int Pid { get; init; }

    /// <summary>The same for who connects.</summary>
    internal MonitorAddress Address => new() { QmpSocket = OpenIn.PathOf(Socket), Pid = Pid };

    /// <inheritdoc/>
    public void Dispose() => Socket?.Dispose();
}
