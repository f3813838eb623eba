using System.Globalization;
using System.Text.Json;
using Bgsnap.Engine.Disks.Graph;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;

namespace Bgsnap.Engine.Capture;

/// <summary>Reads the facts of <see cref="MachineFacts"/> as values by name.</summary>
internal static class MachineState
{
    /// <summary>Every device by its name in QOM, with its type.</summary>
    internal static IReadOnlyDictionary<string, string> Devices(IQmpMonitor qmp)
    {
        Dictionary<string, string> devices = new(StringComparer.Ordinal);
        foreach (string folder in Preflight.DeviceFolders)
        {
            using QmpAnswer answer = qmp.Execute("qom-list", QmpJson.Object(("path", folder)));
            foreach (QmpValue child in answer.Return.EnumerateArray())
            {
                string type = child.GetProperty("type").GetString(),
                    name = child.GetProperty("name").GetString();
                // Whether a balloon reports pages, or which device has an iothread, is a property of these objects that QEMU does not allow
                // to change later. The guest itself moves the other unattached objects (memory regions, interrupts).
                bool isDevice = folder != "/machine/unattached" || name.StartsWith("device[", StringComparison.Ordinal);
                if (isDevice && type.StartsWith("child<", StringComparison.Ordinal))
                    devices[$"{folder["/machine/".Length..]}/{name}"] = type;
            }
        }
        return devices;
    }

    /// <summary>Every drive with a medium: the node that its device reads, what that node is, and its size.</summary>
    internal static IReadOnlyDictionary<string, string> Disks(IQmpMonitor qmp, Func<string, string> below)
    {
        Dictionary<string, string> nodes = new(StringComparer.Ordinal);
        using (QmpAnswer answer = qmp.Execute("query-named-block-nodes", QmpJson.Object(("flat", true))))
        {
            foreach (QmpValue n in answer.Return.EnumerateArray())
                nodes[n.GetProperty("node-name").GetString()] = $"{n.GetProperty("drv").GetString()} {n.GetProperty("file").GetString()}";
        }
        Dictionary<string, string> disks = new(StringComparer.Ordinal);
        foreach (VmDisk d in VmDisk.ReadAll(qmp))
        {
            string node = below(d.NodeName);
            string file = nodes.GetValueOrDefault(node, "gone"),
                mode = d.IsReadOnly ? ", read-only" : "";
            disks[d.Name] = string.Create(
                CultureInfo.InvariantCulture,
                $"{node} ({file}) for {d.Device ?? "no device"}, {d.VirtualSize} bytes{mode}"
            );
        }
        return disks;
    }

    /// <summary>
    /// Hardware that accesses guest memory by itself, according to what QEMU holds. If there is any, the capture is refused.
    /// </summary>
    internal static IReadOnlyDictionary<string, string> Hardware(ProcessEntry process) =>
        HeldDevices.Of(process) is { } held ? new Dictionary<string, string> { [$"QEMU {held}"] = "" } : [];

    /// <summary>
    /// Why QEMU would not migrate the machine. The dump that holds a guest blocks migrations too, but has ended at that point.
    /// </summary>
    internal static IReadOnlyDictionary<string, string> Blockers(IQmpMonitor qmp)
    {
        using QmpAnswer answer = qmp.Execute("query-migrate");
        Dictionary<string, string> blockers = new(StringComparer.Ordinal);
        if (answer.Return.TryGetProperty("blocked-reasons", out QmpValue reasons) && reasons.ValueKind == JsonValueKind.Array)
        {
            foreach (QmpValue r in reasons.EnumerateArray())
            {
                if (r.GetString() is { } reason && !reason.Contains("dump-guest-memory", StringComparison.Ordinal))
                    blockers[$"'{reason}'"] = "";
            }
        }
        return blockers;
    }

    /// <summary>Every RAM block: its address, its length, and its kind of memory.</summary>
    internal static IReadOnlyDictionary<string, string> Memory(IReadOnlyList<RamBlock> blocks) =>
        blocks.ToDictionary(
            b => b.Name,
            b => string.Create(CultureInfo.InvariantCulture, $"{b.UsedLength} bytes at {b.HostAddress:x}, {b.Kind}"),
            StringComparer.Ordinal
        );

    /// <summary>
    /// Processes that can write to the memory behind QEMU's page tables: the first such process makes the agent refuse the capture.
    /// </summary>
    internal static IReadOnlyDictionary<string, string> Sharers(ProcessEntry process, IReadOnlyList<RamBlock> blocks)
    {
        SharedRam.Refuse(process, blocks);
        return new Dictionary<string, string>();
    }

    /// <summary>What an event is about: an id or a path; null if the subject has no name.</summary>
    internal static string? SubjectOf(QmpEvent e)
    {
        if (e.Data.Length == 0)
            return null;
        QmpValue data = e.Value;
        foreach (string name in (ReadOnlySpan<string>)["device", "id", "path", "qom-path"])
        {
            if (
                data.TryGetProperty(name, out QmpValue value)
                && value.ValueKind == JsonValueKind.String
                && value.GetString() is { Length: > 0 } text
                && !AgentNames.IsOurs(text)
            )
            {
                return text;
            }
        }
        return null;
    }
}
