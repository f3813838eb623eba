using System.Text.Json;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;

namespace Bgsnap.Qemu.Vm;

/// <summary>
/// Devices with an iothread, and what some QEMU versions do to them that a capture must not provoke; docs/design/0010-iothreads.md.
/// </summary>
internal static class IoThreads
{
    /// <summary>
    /// Before this version an iothread's block nodes are under a lock, and blockdev-add of a filter unlocks it without holding it: QEMU
    /// aborts.
    /// </summary>
    private static readonly Version WithoutContextLock = new(9, 0);

    private const string Anonymous = "/machine/peripheral-anon";

    /// <summary>Devices with an iothread, by id; a device without an id by its type and place.</summary>
    internal static IReadOnlyList<string> DevicesOf(IQmpMonitor qmp)
    {
        using (QmpAnswer threads = qmp.Execute("query-iothreads"))
        {
            if (threads.Return.GetArrayLength() == 0)
                return [];
        }
        List<string> devices = [];
        foreach (string folder in (ReadOnlySpan<string>)["/machine/peripheral", Anonymous])
        {
            using QmpAnswer children = qmp.Execute("qom-list", QmpJson.Object(("path", folder)));
            foreach (QmpValue child in children.Return.EnumerateArray())
            {
                string name = child.GetProperty("name").GetString();
                string type = child.GetProperty("type").GetString();
                if (type.StartsWith("child<", StringComparison.Ordinal) && HasThread(qmp, $"{folder}/{name}"))
                    devices.Add(folder == Anonymous ? $"{type["child<".Length..^1]} without an id ({folder}/{name})" : name);
            }
        }
        return devices;
    }

    /// <summary>The device for which putting a filter above a disk can abort this QEMU; null: none of them can.</summary>
    internal static string? FilterAborts(IQmpMonitor qmp) =>
        qmp.QemuVersion < WithoutContextLock && DevicesOf(qmp) is [string device, ..] ? device : null;

    /// <summary>Refuses a machine whose disks may never answer again after a stop.</summary>
    /// <exception cref="RefusedException">A device with an iothread, without KVM, in a QEMU that loses the interrupt.</exception>
    internal static void RefuseLostInterrupts(IQmpMonitor qmp)
    {
        if (qmp.QemuVersion < WithoutContextLock || IsKvm(qmp) || DevicesOf(qmp) is not [string device, ..])
            return;
        throw new RefusedException(
            Reasons.IoThreadUnsafe,
            $"device {device} has an iothread: when QEMU {qmp.QemuVersion} without KVM stops and resumes, it may lose the "
                + "interrupt of a disk request, and the guest's disk hangs permanently; remove the iothread, or use KVM"
        );
    }

    private static bool IsKvm(IQmpMonitor qmp)
    {
        using QmpAnswer kvm = qmp.Execute("query-kvm");
        return kvm.Return.GetProperty("enabled").GetBoolean();
    }

    private static bool HasThread(IQmpMonitor qmp, string device)
    {
        using QmpAnswer properties = qmp.Execute("qom-list", QmpJson.Object(("path", device)));
        foreach (QmpValue p in properties.Return.EnumerateArray())
        {
            // One iothread, or since QEMU 9 one for each queue.
            string name = p.GetProperty("name").GetString();
            if (name is not ("iothread" or "iothread-vq-mapping"))
                continue;
            using QmpAnswer value = qmp.Execute("qom-get", QmpJson.Object(("path", device), ("property", name)));
            if (
                value.Return is { ValueKind: JsonValueKind.String } text
                    ? text.GetString() is { Length: > 0 }
                    : value.Return is { ValueKind: JsonValueKind.Array } list && list.GetArrayLength() > 0
            )
            {
                return true;
            }
        }
        return false;
    }
}
