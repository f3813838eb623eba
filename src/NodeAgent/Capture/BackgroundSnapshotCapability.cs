using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// QEMU's <c>background-snapshot</c> migration capability, switched on for the time of a capture (qapi/migration.json, since 6.0). While
/// it is on, a live
/// migration would be a background snapshot too: a note in QEMU tells the next agent to switch off what a dead one left on.
/// </summary>
internal sealed class BackgroundSnapshotCapability : IDisposable
{
    private const string Name = "background-snapshot",
        Note = "agent-bgsnap-background-snapshot";

    /// <summary>A migration whose reader has died ends within milliseconds; until then QEMU changes no capability.</summary>
    private const int MostMilliseconds = 5000;

    private readonly IQmpMonitor _qmp;

    private BackgroundSnapshotCapability(IQmpMonitor qmp) => _qmp = qmp;

    /// <summary>
    /// The first release that lets go of guest memory when its background-snapshot fails or is cancelled (ram_write_tracking_stop()).
    /// </summary>
    private static readonly (int Major, int Minor) FirstThatLetsGo = (8, 1);

    /// <exception cref="EngineUnavailableException">QEMU or its machine does not allow it, or it is not safe; the reason is in the
    /// message.</exception>
    internal static BackgroundSnapshotCapability Enable(IQmpMonitor qmp)
    {
        RefuseUnsafe(qmp);
        try
        {
            QemuMark.Put(qmp, Note);
            Set(qmp, true);
            return new BackgroundSnapshotCapability(qmp);
        }
        catch (QmpException e) when (e.ErrorClass is not null)
        {
            _ = QemuMark.Take(qmp, Note);
            throw new EngineUnavailableException($"QEMU's own background-snapshot is not to be had: {e.Message}");
        }
    }

    /// <summary>Looks for the note of an agent that has died, and switches off what it left on.</summary>
    /// <returns>How many things were put in order: 0 or 1.</returns>
    /// <exception cref="CaptureFailedException">QEMU keeps it on: a migration is still under way.</exception>
    internal static int Sweep(IQmpMonitor qmp)
    {
        if (!QemuMark.Take(qmp, Note))
            return 0;
        // Should we die now, the next one is to find it.
        QemuMark.Put(qmp, Note);
        try
        {
            SwitchOff(qmp);
        }
        catch (QmpException e) when (e.ErrorClass is not null)
        {
            throw new CaptureFailedException(
                "LeftoversRemain",
                $"the migration capability background-snapshot, which an earlier agent left on, could not be switched off: {e.Message}",
                e
            );
        }
        return 1;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        try
        {
            SwitchOff(_qmp);
        }
        catch (QmpException)
        {
            // QEMU is gone, or busy for long with what failed: the note stays, and the next agent switches it off.
        }
    }

    /// <summary>
    /// An older QEMU keeps the memory write-protected, and the guest hangs for good at its next write, when the snapshot ends early: when
    /// we are killed, say,
    /// and nobody is left who could free it.
    /// </summary>
    private static void RefuseUnsafe(IQmpMonitor qmp)
    {
        using QmpAnswer answer = qmp.Execute("query-version");
        QmpValue version = answer.Return.GetProperty("qemu");
        (int Major, int Minor) release = (version.GetProperty("major").GetInt32(), version.GetProperty("minor").GetInt32());
        if (release.CompareTo(FirstThatLetsGo) < 0 && !TestHooks.Is("allow", "unsafe-background-snapshot"))
        {
            throw new EngineUnavailableException(
                "QEMU's own background-snapshot would endanger the guest: "
                    + $"QEMU {release.Major}.{release.Minor} leaves it hanging for good when the snapshot ends early; QEMU 8.1 or "
                    + "later does not. "
                    + "Use the agent engine"
            );
        }
    }

    private static void SwitchOff(IQmpMonitor qmp)
    {
        for (long end = Environment.TickCount64 + MostMilliseconds; ; Thread.Sleep(10))
        {
            try
            {
                Set(qmp, false);
                _ = QemuMark.Take(qmp, Note);
                return;
            }
            catch (QmpException e) when (e.ErrorClass is not null && Environment.TickCount64 < end)
            {
                // "There's a migration process in progress"
            }
        }
    }

    private static void Set(IQmpMonitor qmp, bool on)
    {
        string list = $"[{QmpJson.Object(("capability", Name), ("state", on))}]";
        using QmpAnswer _ = qmp.Execute("migrate-set-capabilities", QmpJson.Object(("capabilities", new QmpJson.Raw(list))));
    }
}
