using System.Globalization;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Engine.Restore;

/// <summary>A difference at one place of the machine.</summary>
/// <param name="Path">The place, as section names begin.</param>
/// <param name="Words">The difference, in words for messages.</param>
internal readonly record struct DeviceDifference(string Path, string Words);

/// <summary>
/// Compares the PCI devices that a snapshot records of its machine with the target's, where both have one at the same place. QEMU refuses
/// the state of a device of another shape in the middle of the load, when the target can no longer be used.
/// </summary>
/// <remarks>
/// Tried: each of these differences ends the load. Types are not compared, because each release renames some; the PCI id is what a guest
/// sees, and QEMU checks it. A target with fewer queues is refused: the load itself accepts it, but the guest then waits for the missing
/// queues. More queues do no harm. A property that only one side knows is ignored.
/// </remarks>
internal static class ShapeCheck
{
    private static readonly string[] Queues = ["num-queues", "num_queues"];

    /// <summary>Every difference, in words.</summary>
    /// <param name="captured">The captured machine's devices; null: the snapshot's version did not record them.</param>
    /// <param name="target">The target's devices.</param>
    internal static IEnumerable<DeviceDifference> Differences(IReadOnlyList<ManifestDevice>? captured, IReadOnlyList<PciDevice> target)
    {
        Dictionary<string, PciDevice> there = ByPath(target, d => d.Path);
        foreach (ManifestDevice device in ByPath(captured ?? [], d => d.Path).Values)
        {
            // The section comparison names a device that is missing.
            if (!there.TryGetValue(device.Path, out PciDevice? other))
                continue;
            if (device.PciId is { } id && other.PciId is { } otherId && id != otherId)
            {
                yield return new(
                    device.Path,
                    $"device {device.Path} is {Words(other.Type, other.Id)} (PCI id {otherId}), "
                        + $"in the captured machine {Words(device.Type, device.Id)} ({id})"
                );
            }
            else if (Shape(device, other) is { Length: > 0 } shape)
            {
                yield return new(device.Path, $"device {device.Path}, {Words(other.Type, other.Id)}, has {shape}");
            }
        }
    }

    /// <remarks>If two devices seem to have the same place, the place tells nothing about either.</remarks>
    private static Dictionary<string, T> ByPath<T>(IReadOnlyList<T> devices, Func<T, string> path) =>
        devices.GroupBy(path).Where(g => g.Count() == 1).ToDictionary(g => g.Key, g => g.Single());

    private static string Shape(ManifestDevice captured, PciDevice target)
    {
        List<string> found = [];
        foreach ((string name, string before) in captured.Properties ?? new Dictionary<string, string>())
        {
            if (target.Properties?.GetValueOrDefault(name) is not { } now || now == before || Queues.Contains(name) && IsMore(now, before))
                continue;
            found.Add($"{name} {now} instead of {before}");
        }
        return string.Join(", ", found);
    }

    private static bool IsMore(string now, string before) => !TryParse(now, out ulong n) || !TryParse(before, out ulong b) || n > b;

    private static bool TryParse(string text, out ulong number) => ulong.TryParse(text, CultureInfo.InvariantCulture, out number);

    private static string Words(string type, string? id) => id is null ? type : $"{type} '{id}'";
}
