using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// What stops the guest for a window and lets it go. There is one for each case, so that the window itself need not know which it is:
/// <see cref="SaveStop"/> where nothing is to be done between stopping and saving, <see cref="GuestHold"/> where something is,
/// <see cref="LastingStop"/> for a guest that is to stay stopped.
/// </summary>
internal interface IGuestStop : IDisposable
{
    /// <summary>The guest stays stopped when the window is over.</summary>
    bool Lasts { get; }

    /// <summary>QEMU holds the guest apart from its saving of the devices: only <see cref="Release"/> lets it go.</summary>
    bool Holds { get; }

    /// <summary>The stop is sent next.</summary>
    void Arm();

    /// <summary>Adds the command that stops the guest, before those that cut its disks.</summary>
    void AddTo(QmpBatch batch);

    /// <summary>The devices are saved, and the memory is protected: the guest may run.</summary>
    void Release();

    /// <summary>The window is over, and the guest's state settled. Whatever fails from here on does not concern it.</summary>
    /// <param name="ran">It ran before.</param>
    void Settled(bool ran);

    /// <summary>The window is given up: the guest gets back the state that it had. Never throws.</summary>
    /// <param name="ran">It ran before, as far as is known.</param>
    void GiveUp(bool ran);

    /// <summary>The snapshot is complete: a guest that was to stay stopped may stay so.</summary>
    void Keep();
}

/// <summary>
/// No command of its own: <c>xen-save-devices-state</c> stops a guest that runs and resumes it at its end, whoever dies meanwhile
/// (qmp_xen_save_devices_state() in QEMU's migration/savevm.c). Nobody comes in between, since QEMU's main loop is in that one command.
/// </summary>
internal sealed class SaveStop : IGuestStop
{
    /// <inheritdoc/>
    public bool Lasts => false;

    /// <inheritdoc/>
    public bool Holds => false;

    /// <inheritdoc/>
    public void Arm()
    {
    }

    /// <inheritdoc/>
    public void AddTo(QmpBatch batch)
    {
    }

    /// <inheritdoc/>
    public void Release()
    {
    }

    /// <inheritdoc/>
    public void Settled(bool ran)
    {
    }

    /// <inheritdoc/>
    public void GiveUp(bool ran)
    {
    }

    /// <inheritdoc/>
    public void Keep()
    {
    }

    /// <inheritdoc/>
    public void Dispose()
    {
    }
}

/// <summary>QEMU's <c>stop</c>, with a note in QEMU until the snapshot is complete (<see cref="StoppedGuestMark"/>): should we die before, the next one resumes the guest.</summary>
internal sealed class LastingStop(IQmpMonitor qmp) : IGuestStop
{
    private StoppedGuestMark? _mark;

    /// <inheritdoc/>
    public bool Lasts => true;

    /// <inheritdoc/>
    public bool Holds => false;

    /// <inheritdoc/>
    public void Arm()
    {
        _mark = StoppedGuestMark.Set(qmp);
        // As late as can be: a guest that its user has paused is not to be resumed for our note.
        if (!qmp.IsRunning())
            Settled(ran: false);
    }

    /// <inheritdoc/>
    public void AddTo(QmpBatch batch) => batch.AddShort("stop");

    /// <inheritdoc/>
    public void Release()
    {
    }

    /// <inheritdoc/>
    public void Settled(bool ran)
    {
        if (!ran)
            Keep();
    }

    /// <inheritdoc/>
    public void GiveUp(bool ran)
    {
        if (ran)
            _mark?.ResumeGuest();
        else
            _mark?.Forget();
    }

    /// <inheritdoc/>
    public void Keep()
    {
        _mark?.Remove();
        _mark = null;
    }

    /// <inheritdoc/>
    public void Dispose() => _mark?.ResumeGuest();
}
