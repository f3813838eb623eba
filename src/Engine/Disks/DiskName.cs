using System.Text.Json;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Disks;

/// <summary>
/// The name of a disk in a snapshot, on the command line and in statuses. It derives from what the user wrote in QEMU's arguments, so that
/// source and target of a restore agree even if nothing else about them does.
/// </summary>
internal static class DiskName
{
    private const int Longest = 128;
    private const string Peripheral = "/machine/peripheral/";

    /// <summary>Returns the drive's id (<c>-drive id=</c>), else its device's id (<c>-device id=</c>), else the node's name.</summary>
    /// <param name="drive">query-block's <c>device</c>; empty with <c>-blockdev</c>.</param>
    /// <param name="qdev">query-block's <c>qdev</c>: an id, or a path in QOM.</param>
    /// <param name="nodeName">Name of the node on top.</param>
    /// <returns>Only <c>A-Z a-z 0-9 . _ -</c>, does not begin with a dot.</returns>
    internal static string Of(string? drive, string? qdev, string? nodeName)
    {
        string name =
            drive is { Length: > 0 } ? drive
            : IdOf(qdev) is { Length: > 0 } id ? id
            : nodeName is { Length: > 0 } ? nodeName
            : "disk";
        string clean = string.Concat(name.Take(Longest).Select(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-' ? c : '_'));
        return clean[0] == '.' ? $"_{clean[1..]}" : clean;
    }

    /// <summary>Names every entry of query-block, in its order; if two would get the same name, the later one gets <c>_2</c>.</summary>
    /// <param name="queryBlock">The array that query-block returned. The entries live as long as its document.</param>
    internal static IReadOnlyList<(string Name, QmpValue Entry)> OfAll(QmpValue queryBlock)
    {
        List<(string, QmpValue)> named = [];
        HashSet<string> taken = new(StringComparer.Ordinal);
        foreach (QmpValue entry in queryBlock.EnumerateArray())
        {
            string? node = entry.TryGetProperty("inserted", out QmpValue inserted) ? Text(inserted, "node-name") : null;
            string name = Of(Text(entry, "device"), Text(entry, "qdev"), node);
            string unique = name;
            for (int n = 2; !taken.Add(unique); n++)
                unique = $"{name}_{n}";
            named.Add((unique, entry));
        }
        return named;
    }

    /// <summary>virtio's backend is below the device that has the id; a device without an id has no such name.</summary>
    private static string? IdOf(string? qdev) =>
        qdev switch
        {
            null => null,
            _ when qdev.StartsWith(Peripheral, StringComparison.Ordinal) => qdev[Peripheral.Length..].Split('/')[0],
            ['/', ..] => null,
            _ => qdev,
        };

    private static string? Text(QmpValue element, string name) =>
        element.TryGetProperty(name, out QmpValue value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;
}
