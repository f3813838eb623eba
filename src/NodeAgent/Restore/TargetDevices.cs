using Bgsnap.NodeAgent.Capture;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Store;
using Bgsnap.NodeAgent.Streams;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Restore;

/// <summary>
/// Asks a QEMU that waits what devices it has, in the only words that count for a restore: those of its own device state.
/// </summary>
/// <remarks>
/// <c>xen-save-devices-state</c> works in the state <c>inmigrate</c> too and changes nothing there: no vCPU runs that could be stopped
/// or resumed, and disks, which are not active yet, stay as they are. Names of devices in QOM or <c>info qtree</c> would have to be
/// translated, with a table that each release of QEMU outdates.
/// </remarks>
internal static class TargetDevices
{
    /// <summary>The sections that it would write; null when it cannot (a device that cannot be migrated): QEMU itself will judge.</summary>
    internal static IReadOnlyList<DeviceSection>? Sections(IQmpMonitor qmp)
    {
        using SafeFileHandle memory = NamedMemory.Create("bgsnap-target-devices");
        try
        {
            Save(qmp, memory);
            long size = RandomAccess.GetLength(memory);
            if (size is 0 or > SnapshotFormat.MaxDeviceStateSize)
                return null;
            byte[] bytes = new byte[size];
            HostileFile.ReadExactly(memory, bytes, 0, "the target's device state");
            return DeviceStateFile.Parse(bytes).Sections;
        }
        catch (Exception e) when (e is QmpException { ErrorClass: not null } or MigrationStreamException)
        {
            return null;
        }
    }

    private static void Save(IQmpMonitor qmp, SafeFileHandle memory)
    {
        // QEMU takes from a set of descriptors the one that was opened for exactly what it wants: writing only.
        using SafeFileHandle write = FileSyscalls.OpenAt(null, OpenIn.PathOf(memory), FileSyscalls.O_WRONLY);
        using var added = qmp.Execute("add-fd", QmpJson.Object(("opaque", UserfaultfdSource.Opaque)), (int)write.DangerousGetHandle());
        int set = added.RootElement.GetProperty("return").GetProperty("fdset-id").GetInt32();
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
