using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// A note in QEMU itself: the agent stopped this guest, and the guest must run again unless its snapshot is completed. The process that
/// cleans up after a dead agent finds the note and resumes the guest.
/// </summary>
internal sealed class StoppedGuestMark
{
    private const string Name = "agent-bgsnap-stopped-guest";
    private readonly IQmpMonitor _qmp;
    private bool _gone;

    private StoppedGuestMark(IQmpMonitor qmp) => _qmp = qmp;

    /// <summary>Leaves the note while the guest still runs.</summary>
    internal static StoppedGuestMark Set(IQmpMonitor qmp)
    {
        QemuMark.Put(qmp, Name);
        return new StoppedGuestMark(qmp);
    }

    /// <summary>Removes the note: the guest's state is as it should be.</summary>
    internal void Remove()
    {
        if (_gone)
            return;
        _gone = true;
        _ = QemuMark.Take(_qmp, Name);
    }

    /// <summary>Removes the note after another failure; never throws.</summary>
    internal void Forget()
    {
        try
        {
            Remove();
        }
        catch (QmpException)
        {
            // QEMU is gone, or the next agent finds the note.
        }
    }

    /// <summary>Resumes the guest, unless the note is gone. Never throws, because it is called after another failure.</summary>
    internal void ResumeGuest()
    {
        if (_gone)
            return;
        try
        {
            Resume(_qmp);
            Remove();
        }
        catch (QmpException)
        {
            // QEMU is gone, or the next agent finds the note and handles it.
        }
    }

    /// <summary>Looks for the note of an agent that died, and resumes its guest.</summary>
    /// <returns>Whether there was a note, and the guest was resumed because of it.</returns>
    internal static bool Sweep(IQmpMonitor qmp)
    {
        if (!QemuMark.TakeNote(qmp, Name))
            return false;
        // If we die now, the next agent must find the note.
        Set(qmp).ResumeGuest();
        return true;
    }

    private static void Resume(IQmpMonitor qmp)
    {
        using QmpAnswer status = qmp.Execute("query-status");
        if (status.Return.GetProperty("status").GetString() == "paused")
            qmp.Resume();
    }
}
