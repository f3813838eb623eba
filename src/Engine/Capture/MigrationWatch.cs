using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// Notices that the guest is being migrated. An operator who drains a node cannot wait for a capture, and what a capture has in QEMU can
/// fail a migration at its end: the capture gives way.
/// </summary>
/// <param name="qmp">QEMU.</param>
internal sealed class MigrationWatch(IQmpMonitor qmp)
{
    private const long Interval = 1000;
    private long _asked = Environment.TickCount64;

    /// <summary>Asks QEMU.</summary>
    /// <exception cref="CaptureFailedException">A migration is in progress.</exception>
    internal static void Check(IQmpMonitor qmp)
    {
        using QmpAnswer answer = qmp.Execute("query-migrate");
        if (MigrationState.UnderWay(answer.Return) is not null)
            throw Began();
    }

    /// <summary>Asks QEMU now and then: QEMU sends its events only to libvirt, which has asked for them.</summary>
    /// <exception cref="CaptureFailedException">A migration is in progress.</exception>
    internal void Check()
    {
        if (Environment.TickCount64 - _asked < Interval)
            return;
        _asked = Environment.TickCount64;
        Check(qmp);
    }

    /// <summary>Examines an event.</summary>
    /// <exception cref="CaptureFailedException">The event says that a migration is in progress.</exception>
    internal static void Note(QmpEvent e)
    {
        if (MigrationState.SaysUnderWay(e))
            throw Began();
    }

    internal static CaptureFailedException Began() =>
        new(
            Reasons.MigrationActive,
            "a migration of this guest began during the capture, which gave way to it; the guest runs on, and no snapshot was kept. "
                + "Try again when the migration has ended"
        );
}
