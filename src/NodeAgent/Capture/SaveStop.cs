using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// No command of its own: <c>xen-save-devices-state</c> stops a guest that runs and resumes it at its end, even if we die meanwhile
/// (qmp_xen_save_devices_state() in QEMU's migration/savevm.c). Nobody comes in between, since QEMU's main loop is in that one command.
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
