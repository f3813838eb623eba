using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// A note that lies in QEMU itself: this guest was stopped by us and is to run again unless its snapshot gets complete. The process that
/// cleans up after a dead agent finds it there and resumes the guest.
/// </summary>
internal sealed class StoppedGuestMark
{
    private const string Name = "agent-bgsnap-stopped-guest";
    private readonly IQmpMonitor _qmp;
    private bool _gone;

    private StoppedGuestMark(IQmpMonitor qmp) => _qmp = qmp;

    /// <summary>Leaves the note; the guest still runs.</summary>
    internal static StoppedGuestMark Set(IQmpMonitor qmp)
    {
        QemuMark.Put(qmp, Name);
        return new StoppedGuestMark(qmp);
    }

    /// <summary>Takes the note away: the guest's state is as it should be.</summary>
    internal void Remove()
    {
        if (_gone)
            return;
        _gone = true;
        _ = QemuMark.Take(_qmp, Name);
    }

    /// <summary>Takes the note away when something else has failed: never throws.</summary>
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

    /// <summary>Lets the guest run, unless the note is gone; never throws, since it is called when something else has failed.</summary>
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
            // QEMU is gone, or will be looked after by the next agent, which finds the note.
        }
    }

    /// <summary>Looks for the note of an agent that has died, and resumes its guest.</summary>
    /// <returns>Whether there was one, and the guest was resumed for it.</returns>
    internal static bool Sweep(IQmpMonitor qmp)
    {
        if (!QemuMark.TakeNote(qmp, Name))
            return false;
        // Should we die now, the next one is to find it.
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
