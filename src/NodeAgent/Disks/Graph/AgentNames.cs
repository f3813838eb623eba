using System.Globalization;

namespace Bgsnap.NodeAgent.Disks.Graph;

/// <summary>
/// Names of everything we put into QEMU's block layer. They begin with <c>agent-</c>, so that a later agent finds what a dead one left,
/// and a disk's pieces share its number.
/// </summary>
internal static class AgentNames
{
    /// <summary>Beginning of all of them.</summary>
    internal const string Prefix = "agent-";

    /// <summary>Descriptor name of the NBD server's listening socket.</summary>
    internal const string NbdListener = "agent-nbd-listener";

    /// <summary>Note in QEMU: its NBD server is ours.</summary>
    internal const string NbdServer = "agent-nbd-server";

    /// <summary>Most connections to the NBD server at a time.</summary>
    internal const int MostConnections = 128;

    /// <summary>
    /// Throttle group of the nodes that are switched in the stop window: the shorter the sooner QEMU has read it. It limits nothing.
    /// </summary>
    internal const string SwitchGroup = "agent-switch";

    /// <summary>
    /// Throttle group of the nodes that others see. It limits nothing. QEMU writes the group into the name that such a node has as an
    /// image's backing file, and qcow2 takes no name of more than 1023 bytes: an external snapshot that would name nodes of ours, with
    /// which no VM starts, is refused by QEMU itself.
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

    /// <summary>Descriptor name of the duplicate of a connection.</summary>
    internal static string Connection(int number) => "agent-nbd-connection-" + Text(number);

    /// <summary>The node that the device has during a capture, and that others see.</summary>
    internal static string Disk(int disk) => DiskPrefix + Text(disk);

    /// <summary>The node below it, which leads to the filter or past it.</summary>
    internal static string Switch(int disk) => SwitchPrefix + Text(disk);

    /// <summary>Dirty bitmap of what was written since before the cut.</summary>
    internal static string Changed(int disk) => "agent-changed-" + Text(disk);

    /// <summary>The export that keeps the disk's size as it is.</summary>
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

    /// <summary>The number in a name of ours; -1: the name has no number.</summary>
    internal static int NumberOf(string name) =>
        int.TryParse(name[(name.LastIndexOf('-') + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? number : -1;

    private static string Text(int disk) => disk.ToString(CultureInfo.InvariantCulture);
}
