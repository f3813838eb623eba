using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// QEMU's <c>background-snapshot</c> migration capability, switched on for the duration of a capture (qapi/migration.json, since 6.0).
/// While it is on, a live migration would become a background snapshot too. A note in QEMU therefore tells the next agent to switch off
/// what a dead agent left on.
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
    /// The first release that releases guest memory when its background-snapshot fails or is cancelled (ram_write_tracking_stop()).
    /// </summary>
    private static readonly (int Major, int Minor) FirstThatLetsGo = (8, 1);

    /// <exception cref="EngineUnavailableException">QEMU or its machine does not support it, or it is not safe; the message says
    /// why.</exception>
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
            throw new EngineUnavailableException($"QEMU's own background-snapshot does not work here: {e.Message}");
        }
    }

    /// <summary>Looks for the note of an agent that died, and switches off what that agent left on.</summary>
    /// <returns>How many leftovers were cleaned up: 0 or 1.</returns>
    /// <exception cref="CaptureFailedException">QEMU keeps it on: a migration is still in progress.</exception>
    internal static int Sweep(IQmpMonitor qmp)
    {
        if (!QemuMark.Take(qmp, Note))
            return 0;
        // If we die now, the next agent must find the note.
        QemuMark.Put(qmp, Note);
        try
        {
            SwitchOff(qmp);
        }
        catch (QmpException e) when (e.ErrorClass is not null)
        {
            throw new CaptureFailedException(
                Reasons.LeftoversRemain,
                $"the agent could not switch off the migration capability background-snapshot, which an earlier agent left on: {e.Message}",
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
            // QEMU is gone, or is busy for long with what failed: the note stays, and the next agent switches the capability off.
        }
    }

    /// <summary>
    /// Refuses a QEMU that keeps guest memory write-protected when the snapshot ends early. If the agent is killed, for example, the guest
    /// then hangs permanently at its next write, and nothing is left that could free it.
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
                    + $"QEMU {release.Major}.{release.Minor} leaves it hanging permanently when the snapshot ends early; QEMU 8.1 or "
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
