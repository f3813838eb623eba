using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Engine.Restore;

/// <summary>Checks that a waiting QEMU is the machine that was captured: its type, its RAM, its devices.</summary>
internal static class MachineCheck
{
    /// <summary>Every difference, in words; empty: the machine fits.</summary>
    internal static List<string> Differences(RestoreTarget target, SnapshotStream snapshot)
    {
        List<string> found = [];
        ManifestMachine machine = snapshot.Manifest.Machine;
        if (target.Process.MachineType != machine.Type)
            found.Add($"machine type {target.Process.MachineType} instead of {machine.Type}");
        if (IsOlder(target.Process.QemuVersion, machine.QemuVersion))
            found.Add($"QEMU {target.Process.QemuVersion} is older than {machine.QemuVersion}, which wrote the device state");
        found.AddRange(Ram(RamBlockTable.Parse(target.Qmp.ExecuteHuman("info ramblock")), snapshot.Blocks));
        // Between two different machines every device differs, so the type is enough.
        if (target.Process.MachineType == machine.Type)
        {
            string tree = DeviceTree.Read(target.Qmp);
            DeviceDifference[] shape = [.. ShapeCheck.Differences(machine.Devices, DeviceTree.Devices(target.Qmp, tree))];
            found.AddRange(shape.Select(d => d.Words));
            bool sameRelease = SameRelease(target.Process.QemuVersion, machine.QemuVersion);
            string[] named = [.. shape.Select(d => d.Path)];
            found.AddRange(TargetDevices.Differences(target.Qmp, tree, snapshot.Devices, sameRelease, named));
        }
        found.AddRange(MediaCheck.Differences(target.Qmp, snapshot.Manifest));
        found.AddRange(
            ReadOnlyRam.Backends(target.Qmp).Select(b => $"memory backend {b} is read-only, and QEMU would end when it loads the snapshot")
        );
        return found;
    }

    /// <summary>
    /// An older release may not know what a newer one wrote; updates within a release (7.2.19, 7.2.22) read each other's state.
    /// </summary>
    internal static bool IsOlder(string target, string source) => Release(target) is { } t && Release(source) is { } s && t < s;

    private static bool SameRelease(string a, string b) => Release(a) is { } first && first == Release(b);

    private static Version? Release(string version) => Version.TryParse(version, out Version? v) ? new Version(v.Major, v.Minor) : null;

    internal static IEnumerable<string> Ram(IReadOnlyList<RamBlockLine> target, IReadOnlyList<RamBlockLayout> snapshot)
    {
        Dictionary<string, RamBlockLine> blocks = target.ToDictionary(b => b.Name);
        foreach (RamBlockLayout b in snapshot)
        {
            if (!blocks.TryGetValue(b.Name, out RamBlockLine? line))
                yield return $"no RAM block {b.Name} ({b.UsedLength >> 10} KiB)";
            // A resizable block (tables, ROMs) reserves more than it uses, and takes the stream's length within that.
            else if (b.UsedLength > line.MaxLength || line.UsedLength == line.MaxLength && b.UsedLength != line.UsedLength)
                yield return $"RAM block {b.Name} has {line.UsedLength >> 10} KiB instead of {b.UsedLength >> 10}";
        }
        foreach (string extra in blocks.Keys.Except(snapshot.Select(b => b.Name)))
            yield return $"RAM block {extra} is not in the snapshot";
    }
}
