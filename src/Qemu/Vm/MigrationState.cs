using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Qemu.Vm;

/// <summary>Which of QEMU's migration states mean that a migration is in progress.</summary>
internal static class MigrationState
{
    private static readonly string[] States =
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

    /// <summary>The state of a migration from <c>query-migrate</c>; null if no migration is in progress.</summary>
    internal static string? UnderWay(QmpValue info) =>
        info.TryGetProperty("status", out QmpValue status) && States.Contains(status.GetString()) ? status.GetString() : null;

    /// <summary>Whether an event says that a migration is in progress.</summary>
    internal static bool SaysUnderWay(QmpEvent e) =>
        e.Name == "MIGRATION" && States.Any(s => e.Data.Contains($"\"{s}\"", StringComparison.Ordinal));
}
