using System.Text;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// A note in QEMU itself: the agent stopped this guest, and the guest must run again unless its snapshot is completed. The process that
/// cleans up after a dead agent finds the note and resumes the guest.
/// </summary>
/// <remarks>
/// Once the guest stands still, the note says how much processor time its vCPUs had used by then. If they have used more when the note is
/// found, a user has resumed the guest meanwhile: the stop has ended, and the guest keeps the state that its user gave it.
/// </remarks>
internal sealed class StoppedGuestMark
{
    private const string Name = "agent-bgsnap-stopped-guest";
    private const int MaxNote = 64 * 1024;
    private readonly IQmpMonitor _qmp;
    private readonly SafeFileHandle _note;
    private bool _gone;

    private StoppedGuestMark(IQmpMonitor qmp, SafeFileHandle note) => (_qmp, _note) = (qmp, note);

    /// <summary>Leaves the note while the guest still runs.</summary>
    internal static StoppedGuestMark Set(IQmpMonitor qmp)
    {
        return new StoppedGuestMark(qmp, QemuMark.PutOpen(qmp, Name));
    }

    /// <summary>Writes down that the guest stands still now; never throws.</summary>
    internal void NoteStandstill()
    {
        try
        {
            if (!_gone && VcpuTimes.Read(_qmp) is { } times)
                RandomAccess.Write(_note, Encoding.UTF8.GetBytes(VcpuTimes.Text(times)), 0);
        }
        catch (Exception e) when (e is QmpException or IOException)
        {
            // The note stays without that, and holds whatever happens to the guest.
        }
    }

    /// <summary>Removes the note: the guest's state is as it should be.</summary>
    internal void Remove()
    {
        if (_gone)
            return;
        _gone = true;
        _note.Dispose();
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
        bool isPast = IsPast(qmp);
        if (!QemuMark.TakeNote(qmp, Name) || isPast)
            return false;
        // If we die now, the next agent must find the note.
        Set(qmp).ResumeGuest();
        return true;
    }

    /// <summary>Whether the guest has run since it was stopped by us.</summary>
    private static bool IsPast(IQmpMonitor qmp)
    {
        using CheckedProcess? process = CheckedProcess.TryOpen(qmp.PeerPid);
        return process is not null
            && VcpuTimes.Parse(NamedMemory.ReadHeldBy(process, Name, MaxNote)) is { } then
            && VcpuTimes.HasRun(then, VcpuTimes.Read(qmp));
    }

    private static void Resume(IQmpMonitor qmp)
    {
        using QmpAnswer status = qmp.Execute("query-status");
        if (status.Return.GetProperty("status").GetString() == "paused")
            qmp.Resume();
    }
}
