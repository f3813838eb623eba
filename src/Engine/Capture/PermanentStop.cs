using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// Uses QEMU's <c>stop</c>, and keeps a note in QEMU until the snapshot is complete (<see cref="StoppedGuestMark"/>): if the agent dies
/// before that, the next agent resumes the guest.
/// </summary>
internal sealed class PermanentStop(IQmpMonitor qmp) : IGuestStop
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
        // As late as possible: our note must not cause a guest that its user paused to be resumed.
        if (!qmp.IsRunning())
            Settled(ran: false);
    }

    /// <inheritdoc/>
    public void AddTo(QmpBatch batch) => batch.Add("stop");

    /// <inheritdoc/>
    public void Release() { }

    /// <inheritdoc/>
    public void Settled(bool ran)
    {
        if (ran)
            _mark?.NoteStandstill();
        else
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
