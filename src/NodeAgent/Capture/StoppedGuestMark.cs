using System.Text.Json;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// A note that lies in QEMU itself, as a descriptor set with a name: this guest was stopped by us and is to run again unless its snapshot gets
/// complete. Whoever looks after a dead agent finds it there and resumes the guest.
/// </summary>
internal sealed class StoppedGuestMark
{
    private const string Opaque = "agent-bgsnap-stopped-guest";
    private readonly QmpClient _qmp;
    private readonly int _fdset;
    private bool _gone;

    private StoppedGuestMark(QmpClient qmp, int fdset) => (_qmp, _fdset) = (qmp, fdset);

    /// <summary>Leaves the note; the guest still runs.</summary>
    internal static StoppedGuestMark Set(QmpClient qmp)
    {
        using SafeFileHandle nothing = FileSyscalls.OpenAt(null, "/dev/null", FileSyscalls.O_RDONLY);
        using JsonDocument added = qmp.Execute("add-fd", QmpJson.Object(("opaque", Opaque)), (int)nothing.DangerousGetHandle());
        return new StoppedGuestMark(qmp, added.RootElement.GetProperty("return").GetProperty("fdset-id").GetInt32());
    }

    /// <summary>Takes the note away: the guest's state is as it should be.</summary>
    internal void Remove()
    {
        if (_gone)
            return;
        _gone = true;
        _qmp.Execute("remove-fd", QmpJson.Object(("fdset-id", _fdset))).Dispose();
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
    /// <param name="qmp">The monitor.</param>
    /// <param name="sets">What query-fdsets returned.</param>
    internal static void Sweep(QmpClient qmp, JsonElement sets)
    {
        foreach (JsonElement set in sets.EnumerateArray())
        {
            if (!set.GetProperty("fds").EnumerateArray().Any(f => f.TryGetProperty("opaque", out JsonElement o) && o.GetString() == Opaque))
                continue;
            new StoppedGuestMark(qmp, set.GetProperty("fdset-id").GetInt32()).ResumeGuest();
        }
    }

    private static void Resume(QmpClient qmp)
    {
        using JsonDocument status = qmp.Execute("query-status");
        if (status.RootElement.GetProperty("return").GetProperty("status").GetString() == "paused")
            qmp.Execute("cont").Dispose();
    }
}
