using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// Notices that the guest is being migrated. Who drains a node cannot wait for us, and what a capture has in QEMU can fail a migration at
/// its end: the capture gives way.
/// </summary>
/// <param name="qmp">QEMU.</param>
internal sealed class MigrationWatch(IQmpMonitor qmp)
{
    private const long Interval = 1000;
    private static readonly string[] UnderWay =
    [
        "setup",
        "active",
        "pre-switchover",
        "device",
        "postcopy-active",
        "postcopy-paused",
        "postcopy-recover",
        "wait-unplug",
        "cancelling",
        "colo",
    ];
    private long _asked = Environment.TickCount64;

    /// <summary>How far a migration is, which <c>query-migrate</c> tells; null: none is under way.</summary>
    internal static string? StatusOf(QmpValue info) =>
        info.TryGetProperty("status", out QmpValue status) && UnderWay.Contains(status.GetString()) ? status.GetString() : null;

    /// <summary>Asks QEMU.</summary>
    /// <exception cref="CaptureFailedException">A migration is under way.</exception>
    internal static void Check(IQmpMonitor qmp)
    {
        using QmpAnswer answer = qmp.Execute("query-migrate");
        if (StatusOf(answer.Return) is not null)
            throw Began();
    }

    /// <summary>Asks QEMU now and then: it sends its events to libvirt alone, which has asked for them.</summary>
    /// <exception cref="CaptureFailedException">A migration is under way.</exception>
    internal void Check()
    {
        if (Environment.TickCount64 - _asked < Interval)
            return;
        _asked = Environment.TickCount64;
        Check(qmp);
    }

    /// <summary>Looks at an event.</summary>
    /// <exception cref="CaptureFailedException">It says that a migration is under way.</exception>
    internal static void Note(QmpEvent e)
    {
        if (e.Name == "MIGRATION" && UnderWay.Any(s => e.Data.Contains($"\"{s}\"", StringComparison.Ordinal)))
            throw Began();
    }

    internal static CaptureFailedException Began() =>
        new(
            "MigrationActive",
            "a migration of this guest began during the capture, which gave way to it; the guest goes on and nothing was kept. "
                + "Try again when it has ended"
        );
}
