using Bgsnap.NodeAgent.Streams;

namespace Bgsnap.NodeAgent.Restore;

/// <summary>Compares the devices of a device state with those of the QEMU that is to load it.</summary>
/// <remarks>
/// QEMU itself refuses a section that it has no device for, when RAM is loaded already, and says nothing of a device that gets no
/// section: that one would stand there fresh from reset, with a guest that knows nothing of it.
/// </remarks>
internal static class DeviceCheck
{
    /// <summary>The section that each vCPU has one of.</summary>
    internal const string Cpu = "cpu_common";

    /// <summary>Each vCPU has one of these: another number of vCPUs is one difference, not three.</summary>
    private static readonly string[] OfEachCpu = [Cpu, "cpu", "apic"];

    /// <summary>Every difference, in words.</summary>
    /// <param name="snapshot">The sections that will be loaded.</param>
    /// <param name="target">The sections that the target would write of itself.</param>
    /// <param name="sameRelease">
    /// Both are of one release of QEMU. A newer one has sections that older ones did not write, for parts of the machine that
    /// always were there; what hangs at a bus (its section's name is a path) is compared in any case.
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

    /// <summary>Says that the number of vCPUs differs.</summary>
    internal static string CpuDifference(int have, int want) => $"{have} vCPU{(have == 1 ? "" : "s")} instead of {want}";

    private static string Count(int have, string name, int want) => $"{have} device{(have == 1 ? "" : "s")} {name} instead of {want}";

    private static Dictionary<string, (int Count, uint Version)> ByName(IReadOnlyList<DeviceSection> sections) =>
        sections
            // Written only in some states of the guest, and nobody's device.
            .Where(s => s.Name != GlobalState.SectionName)
            .GroupBy(s => s.Name)
            .ToDictionary(g => g.Key, g => (g.Count(), g.Max(s => s.Version)));
}
