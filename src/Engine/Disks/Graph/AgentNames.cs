using System.Globalization;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>
/// Names of everything the agent adds to QEMU's block layer. They begin with <c>agent-</c>, so that a later agent finds what a dead one
/// left, and all parts of a disk share its number.
/// </summary>
internal static class AgentNames
{
    /// <summary>The common prefix.</summary>
    internal const string Prefix = "agent-";

    /// <summary>Descriptor name of the NBD server's listening socket.</summary>
    internal const string NbdListener = "agent-nbd-listener";

    /// <summary>Note in QEMU that its NBD server is ours.</summary>
    internal const string NbdServer = "agent-nbd-server";

    /// <summary>The most connections to the NBD server at a time.</summary>
    internal const int MostConnections = 128;

    /// <summary>
    /// Throttle group of the nodes that are switched in the stop window. The shorter the name, the sooner QEMU has read it. It limits
    /// nothing.
    /// </summary>
    internal const string SwitchGroup = "agent-switch";

    /// <summary>
    /// Throttle group of the nodes that other clients see. It limits nothing. QEMU writes the group into the name that such a node has as
    /// an image's backing file, and qcow2 accepts no name longer than 1023 bytes. So QEMU itself refuses an external snapshot that would
    /// name the agent's nodes, with which no VM could start.
    /// </summary>
    internal static readonly string DiskGroup = "agent-a-capture-is-under-way-" + new string('x', 1023);

    private const string ScratchPrefix = "agent-scratch-",
        FilterPrefix = "agent-filter-",
        AccessPrefix = "agent-access-",
        ExportPrefix = "agent-export-",
        OverlayPrefix = "agent-overlay-",
        CommitPrefix = "agent-commit-",
        DiskPrefix = "agent-disk-",
        SwitchPrefix = "agent-switch-",
        GuardPrefix = "agent-guard-";

    /// <summary>Descriptor name of a connection's duplicate.</summary>
    internal static string Connection(int number) => "agent-nbd-connection-" + Text(number);

    /// <summary>The node that the device uses during a capture, and that other clients see.</summary>
    internal static string Disk(int disk) => DiskPrefix + Text(disk);

    /// <summary>The node below it, which leads to the filter or past it.</summary>
    internal static string Switch(int disk) => SwitchPrefix + Text(disk);

    /// <summary>Dirty bitmap of what was written since before the cut.</summary>
    internal static string Changed(int disk) => "agent-changed-" + Text(disk);

    /// <summary>The export that keeps the disk's size fixed.</summary>
    internal static string Guard(int disk) => GuardPrefix + Text(disk);

    internal static string Scratch(int disk) => ScratchPrefix + Text(disk);

    internal static string Filter(int disk) => FilterPrefix + Text(disk);

    internal static string Access(int disk) => AccessPrefix + Text(disk);

    internal static string Export(int disk) => ExportPrefix + Text(disk);

    internal static string Overlay(int disk) => OverlayPrefix + Text(disk);

    internal static string Commit(int disk) => CommitPrefix + Text(disk);

    internal static bool IsOurs(string name) => name.StartsWith(Prefix, StringComparison.Ordinal);

    internal static bool IsDisk(string name) => name.StartsWith(DiskPrefix, StringComparison.Ordinal);

    internal static bool IsSwitch(string name) => name.StartsWith(SwitchPrefix, StringComparison.Ordinal);

    internal static bool IsFilter(string name) => name.StartsWith(FilterPrefix, StringComparison.Ordinal);

    internal static bool IsOverlay(string name) => name.StartsWith(OverlayPrefix, StringComparison.Ordinal);

    internal static bool IsAccess(string name) => name.StartsWith(AccessPrefix, StringComparison.Ordinal);

    internal static bool IsScratch(string name) => name.StartsWith(ScratchPrefix, StringComparison.Ordinal);

    /// <summary>The number in one of our names; -1 if the name has no number.</summary>
    internal static int NumberOf(string name) =>
        int.TryParse(name[(name.LastIndexOf('-') + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? number : -1;

    private static string Text(int disk) => disk.ToString(CultureInfo.InvariantCulture);
}
