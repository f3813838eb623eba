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

    private const string ScratchPrefix = "agent-scratch-", FilterPrefix = "agent-filter-", AccessPrefix = "agent-access-", ExportPrefix = "agent-export-", OverlayPrefix = "agent-overlay-", CommitPrefix = "agent-commit-";

    /// <summary>Descriptor name of the duplicate of a connection.</summary>
    internal static string Connection(int number) => "agent-nbd-connection-" + Text(number);
    internal static string Scratch(int disk) => ScratchPrefix + Text(disk);
    internal static string Filter(int disk) => FilterPrefix + Text(disk);
    internal static string Access(int disk) => AccessPrefix + Text(disk);
    internal static string Export(int disk) => ExportPrefix + Text(disk);
    internal static string Overlay(int disk) => OverlayPrefix + Text(disk);
    internal static string Commit(int disk) => CommitPrefix + Text(disk);

    internal static bool IsOurs(string name) => name.StartsWith(Prefix, StringComparison.Ordinal);
    internal static bool IsFilter(string name) => name.StartsWith(FilterPrefix, StringComparison.Ordinal);
    internal static bool IsOverlay(string name) => name.StartsWith(OverlayPrefix, StringComparison.Ordinal);
    internal static bool IsAccess(string name) => name.StartsWith(AccessPrefix, StringComparison.Ordinal);
    internal static bool IsScratch(string name) => name.StartsWith(ScratchPrefix, StringComparison.Ordinal);

    private static string Text(int disk) => disk.ToString(CultureInfo.InvariantCulture);
}
