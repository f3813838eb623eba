using System.Text.Json;
using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.SnapshotFormat.Streams;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Restore;

/// <summary>
/// Compares the devices of a waiting QEMU with a snapshot's: by the sections of QEMU's own device state if QEMU can save that without harm,
/// else by its device tree.
/// </summary>
/// <remarks>
/// <c>xen-save-devices-state</c> works in the state <c>inmigrate</c> too: no vCPU runs that could be stopped or resumed, and disks, which
/// are not active yet, stay as they are. But two kinds of device do not survive it in a machine that never ran. A device that cannot be
/// migrated has no fields to save, and QEMU crashes over it (nvme). A device whose state is in a back end asks that back end, and one that
/// was not started gives no answer that QEMU understands: with an emulated TPM, QEMU's monitor is dead from then on. So the agent first
/// asks for what costs nothing: the list of blockers, and the trees.
/// </remarks>
internal static class TargetDevices
{
    private const string Blocker = "non-migratable device: ";
    private static readonly string[] BackEndDevices = ["vhost-user-", "vhost-vdpa", "vfio-"];

    /// <summary>Every difference, in words; empty: the devices are the same.</summary>
    /// <param name="qmp">The target's monitor.</param>
    /// <param name="tree">Its device tree.</param>
    /// <param name="snapshot">The device state that QEMU will load.</param>
    /// <param name="sameRelease">Both are of the same QEMU release.</param>
    /// <param name="named">Places with a difference that is known already.</param>
    internal static IReadOnlyList<string> Differences(
        IQmpMonitor qmp,
        string tree,
        DeviceStateFile snapshot,
        bool sameRelease,
        IReadOnlyCollection<string> named
    )
    {
        IReadOnlyList<string> unsaved = [.. NonMigratable(qmp).Except(snapshot.Sections.Select(s => s.Name))];
        if (unsaved.Count == 0 && !AskBackEnds(qmp, tree))
        {
            if (OwnState(qmp) is not { } own)
                return [];
            IEnumerable<string> missing = DeviceCheck.Differences(snapshot.Sections, own.Sections, sameRelease);
            return [.. missing, .. PciConfigCheck.Differences(snapshot, own, named)];
        }
        HashSet<string> unsavedPaths = [.. unsaved.Select(n => n[..n.LastIndexOf('/')])];
        IEnumerable<PciDevice> others = DeviceTree.Parse(tree).Where(d => !unsavedPaths.Contains(d.Path));
        return
        [
            .. unsaved.Select(n => $"device {n} is not in the snapshot, and QEMU cannot save such devices"),
            .. SectionCheck.Differences(snapshot.Sections, [.. others], DeviceTree.Cpus(qmp)),
        ];
    }

    /// <summary>The devices that QEMU itself says cannot be migrated, named as their sections would be.</summary>
    private static IReadOnlyList<string> NonMigratable(IQmpMonitor qmp)
    {
        using QmpAnswer answer = qmp.Execute("query-migrate");
        return answer.Return.TryGetProperty("blocked-reasons", out QmpValue reasons) && reasons.ValueKind == JsonValueKind.Array
            ?
            [
                .. reasons
                    .EnumerateArray()
                    .Select(r => r.GetString())
                    .Where(r => r.StartsWith(Blocker, StringComparison.Ordinal))
                    .Select(r => r[Blocker.Length..]),
            ]
            : [];
    }

    /// <summary>Whether a device would ask another process for its state.</summary>
    private static bool AskBackEnds(IQmpMonitor qmp, string tree) =>
        DeviceTree.Types(tree).Any(t => BackEndDevices.Any(b => t.StartsWith(b, StringComparison.Ordinal)))
        || HasTpm(qmp)
        || HasDBusState(qmp);

    private static bool HasTpm(IQmpMonitor qmp)
    {
        try
        {
            using QmpAnswer tpms = qmp.Execute("query-tpm");
            return tpms.Return.GetArrayLength() > 0;
        }
        catch (QmpException e) when (e.ErrorClass is not null)
        {
            return false; // built without TPMs
        }
    }

    private static bool HasDBusState(IQmpMonitor qmp)
    {
        using QmpAnswer objects = qmp.Execute("qom-list", QmpJson.Object(("path", "/objects")));
        return objects.Return.EnumerateArray().Any(o => o.GetProperty("type").GetString() == "child<dbus-vmstate>");
    }

    /// <summary>The device state that QEMU would write itself; null if it cannot: then QEMU judges the snapshot when it loads it.</summary>
    private static DeviceStateFile? OwnState(IQmpMonitor qmp)
    {
        using SafeFileHandle memory = NamedMemory.Create("bgsnap-target-devices");
        try
        {
            Save(qmp, memory);
            long size = RandomAccess.GetLength(memory);
            if (size is 0 or > FormatV1.MaxDeviceStateSize)
                return null;
            byte[] bytes = new byte[size];
            HostileFile.ReadExactly(memory, bytes, 0, "the target's device state");
            return DeviceStateFile.Parse(bytes);
        }
        catch (Exception e) when (e is QmpException { ErrorClass: not null } or MigrationStreamException)
        {
            return null;
        }
    }

    private static void Save(IQmpMonitor qmp, SafeFileHandle memory)
    {
        // From a set of descriptors QEMU takes the one that was opened in exactly the mode it wants: write-only.
        using SafeFileHandle write = FileSyscalls.OpenAt(null, OpenInRoot.PathOf(memory), FileSyscalls.O_WRONLY);
        using var added = qmp.Execute("add-fd", QmpJson.Object(("opaque", UserfaultfdSource.Opaque)), (int)write.DangerousGetHandle());
        int set = added.Return.GetProperty("fdset-id").GetInt32();
        try
        {
            qmp.Execute("xen-save-devices-state", QmpJson.Object(("filename", $"/dev/fdset/{set}"), ("live", false))).Dispose();
        }
        finally
        {
            qmp.Execute("remove-fd", QmpJson.Object(("fdset-id", set))).Dispose();
        }
    }
}
