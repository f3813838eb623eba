using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// Adds no command: <c>xen-save-devices-state</c> stops a running guest and resumes it at its end, even if the agent dies meanwhile
/// (qmp_xen_save_devices_state() in QEMU's migration/savevm.c). No other client can intervene, because QEMU's main loop is in that one
/// command.
/// </summary>
internal sealed class SaveStop : IGuestStop
{
    /// <inheritdoc/>
    public bool Lasts => false;

    /// <inheritdoc/>
    public bool Holds => false;

    /// <inheritdoc/>
    public void Arm() { }

    /// <inheritdoc/>
    public void AddTo(QmpBatch batch) { }

    /// <inheritdoc/>
    public void Release() { }

    /// <inheritdoc/>
    public void Settled(bool ran) { }

    /// <inheritdoc/>
    public void GiveUp(bool ran) { }

    /// <inheritdoc/>
    public void Keep() { }

    /// <inheritdoc/>
    public void Dispose() { }
}
