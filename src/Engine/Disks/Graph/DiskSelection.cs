using System.Globalization;
using Bgsnap.Qemu;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>The disks that a capture is to copy: <c>all</c>, <c>none</c>, or names.</summary>
internal sealed class DiskSelection
{
    internal static readonly DiskSelection All = new(null),
        None = new([]);
    private readonly IReadOnlyList<string>? _names;

    private DiskSelection(IReadOnlyList<string>? names) => _names = names;

    /// <summary>Parses <c>all</c>, <c>none</c> or <c>NAME,…</c>.</summary>
    internal static DiskSelection Parse(string text) =>
        text switch
        {
            "all" => All,
            "none" => None,
            _ => new DiskSelection(text.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)),
        };

    /// <summary>Splits the machine's drives into those to copy and those only to record, with the reason.</summary>
    /// <exception cref="RefusedException">A name is not a drive of this machine, or names one whose medium the guest cannot
    /// write.</exception>
    internal IReadOnlyList<(VmDisk Disk, string? NotCopied)> Of(IReadOnlyList<VmDisk> disks)
    {
        foreach (string name in _names ?? [])
        {
            VmDisk? disk = disks.FirstOrDefault(d => d.Name == name);
            if (disk is null)
                throw new RefusedException(
                    Reasons.DiskNotFound,
                    $"the machine has no disk {name}; it has {(disks.Count == 0 ? "none" : string.Join(", ", disks.Select(d => d.Name)))}"
                );
            if (Fixed(disk) is { } why)
                throw new RefusedException(
                    Reasons.DiskNotFound,
                    string.Create(CultureInfo.InvariantCulture, $"disk {name} cannot be captured: {why}; exclude it")
                );
        }
        return [.. disks.Select(d => (d, Fixed(d) ?? (_names is null || _names.Contains(d.Name) ? null : "excluded")))];
    }

    private static string? Fixed(VmDisk disk) =>
        disk.IsReadOnly
            ? disk.IsRemovable
                ? "read-only medium"
                : "read-only"
            : disk.Device is null
                ? "no device uses it"
                : disk.VirtualSize == 0
                    ? "empty"
                    : null;
}
