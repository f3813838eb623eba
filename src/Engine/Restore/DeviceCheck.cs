using Bgsnap.SnapshotFormat.Streams;

namespace Bgsnap.Engine.Restore;

/// <summary>Compares the devices in a device state with the devices of the QEMU that will load it.</summary>
/// <remarks>
/// QEMU refuses a section that it has no device for, but only after it has loaded RAM. It does not report a device that gets no section:
/// that device would be fresh from reset, and the guest would know nothing of it.
/// </remarks>
internal static class DeviceCheck
{
    /// <summary>The section that exists once for each vCPU.</summary>
    internal const string Cpu = "cpu_common";

    /// <summary>Each vCPU has one of each of these, so a different number of vCPUs counts as one difference, not as three.</summary>
    private static readonly string[] OfEachCpu = [Cpu, "cpu", "apic"];

    /// <summary>Every difference, in words.</summary>
    /// <param name="snapshot">The sections that QEMU will load.</param>
    /// <param name="target">The sections that the target itself would write.</param>
    /// <param name="sameRelease"> Both are of the same QEMU release. A newer release writes sections that older ones did not write, for
    /// parts of the machine that always existed; devices on a bus (whose section name is a path) are compared in any case.
    /// </param>
    internal static IEnumerable<string> Differences(
        IReadOnlyList<DeviceSection> snapshot,
        IReadOnlyList<DeviceSection> target,
        bool sameRelease
    )
    {
        Dictionary<string, (int Count, uint Version)> wanted = ByName(snapshot),
            there = ByName(target);
        (int wantedCpus, int cpus) = (wanted.GetValueOrDefault(Cpu).Count, there.GetValueOrDefault(Cpu).Count);
        if (wantedCpus != cpus)
        {
            yield return CpuDifference(cpus, wantedCpus);
            foreach (string name in OfEachCpu)
                _ = (wanted.Remove(name), there.Remove(name));
        }
        foreach ((string name, (int count, uint version)) in wanted)
        {
            (int have, uint known) = there.GetValueOrDefault(name);
            if (have < count)
                yield return have == 0 ? $"no device {name}" : Count(have, name, count);
            else if (version > known)
                yield return $"device {name} knows version {known} of its state, the snapshot has version {version}";
        }
        foreach ((string name, (int count, _)) in there)
        {
            int want = wanted.GetValueOrDefault(name).Count;
            if (count > want && (sameRelease || name.Contains('/', StringComparison.Ordinal)))
                yield return want == 0 ? $"device {name} is not in the snapshot" : Count(count, name, want);
        }
    }

    /// <summary>Describes a different number of vCPUs.</summary>
    internal static string CpuDifference(int have, int want) => $"{have} vCPU{(have == 1 ? "" : "s")} instead of {want}";

    private static string Count(int have, string name, int want) => $"{have} device{(have == 1 ? "" : "s")} {name} instead of {want}";

    private static Dictionary<string, (int Count, uint Version)> ByName(IReadOnlyList<DeviceSection> sections) =>
        sections
            // QEMU writes it only in some states of the guest, and it belongs to no device.
            .Where(s => s.Name != GlobalState.SectionName)
            .GroupBy(s => s.Name)
            .ToDictionary(g => g.Key, g => (g.Count(), g.Max(s => s.Version)));
}
