using System.Text.Json;
using Bgsnap.Engine.Disks;
using Bgsnap.Qemu.Qmp;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Engine.Restore;

/// <summary>
/// Checks that the target's removable drives hold a medium where the captured machine's did: the guest may have files open on it.
/// </summary>
internal static class MediaCheck
{
    /// <summary>Every drive without its medium, in words.</summary>
    internal static IEnumerable<string> Differences(IQmpMonitor qmp, Manifest manifest)
    {
        // The snapshot has the content of a medium that was written; the disk check refuses a target without such a medium.
        ManifestDisk[] media = [.. manifest.Disks.Where(d => d is { Removable: true, File: null, NodeName: not null })];
        if (media.Length == 0)
            return [];
        using QmpAnswer answer = qmp.Execute("query-block");
        return [.. Missing(media, answer.Return)];
    }

    /// <summary>The snapshot's media that the target's query-block answer lacks.</summary>
    internal static IEnumerable<string> Missing(IReadOnlyList<ManifestDisk> media, QmpValue queryBlock)
    {
        IReadOnlyList<(string Name, QmpValue Entry)> there = DiskName.OfAll(queryBlock);
        int unnamed = there.Count(t =>
            media.All(m => m.Name != t.Name) && t.Entry.GetProperty("removable").GetBoolean() && HasMedium(t.Entry)
        );
        foreach (ManifestDisk disk in media)
        {
            QmpValue entry = there.FirstOrDefault(t => t.Name == disk.Name).Entry;
            // A drive without an id is named by its node, which differs in each QEMU.
            if (entry.ValueKind == JsonValueKind.Undefined ? unnamed-- > 0 : HasMedium(entry))
                continue;
            yield return $"drive {disk.Name} has no medium; the captured machine had "
                + $"{disk.Image?.Filename ?? $"one of {disk.VirtualSize} bytes"} in it";
        }
    }

    private static bool HasMedium(QmpValue entry) => entry.TryGetProperty("inserted", out _);
}
