using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>A drive of the machine with a medium in it, as QEMU's query-block and query-named-block-nodes describe it.</summary>
/// <param name="Name">Its name in the snapshot.</param>
/// <param name="Device">QOM path of the device that uses it; null if no device does.</param>
/// <param name="NodeName">The block node that the device sees.</param>
/// <param name="IsReadOnly">Whether the guest cannot write to it.</param>
/// <param name="IsRemovable">Whether its medium can be changed: CD-ROM, floppy.</param>
/// <param name="VirtualSize">Bytes that the guest sees.</param>
/// <param name="Driver">Format of the image: <c>raw</c>, <c>qcow2</c>, or a protocol's driver such as <c>file</c>, which is raw.</param>
/// <param name="Filename">The image, as QEMU names it in its own mount namespace.</param>
internal sealed record VmDisk(
    string Name,
    string? Device,
    string NodeName,
    bool IsReadOnly,
    bool IsRemovable,
    long VirtualSize,
    string Driver,
    string Filename
)
{
    /// <summary>Whether the guest sees something other than the image holds, because a part of it is encrypted.</summary>
    internal bool IsEncrypted { get; init; }

    private const string Peripheral = "/machine/peripheral/";

    /// <summary>Reads all drives that have a medium.</summary>
    internal static IReadOnlyList<VmDisk> ReadAll(IQmpMonitor qmp)
    {
        using QmpAnswer answer = qmp.Execute("query-block");
        List<VmDisk> disks = [];
        foreach ((string name, QmpValue entry) in DiskName.OfAll(answer.Return))
        {
            if (!entry.TryGetProperty("inserted", out QmpValue medium) || !medium.TryGetProperty("node-name", out QmpValue node))
                continue;
            disks.Add(
                new VmDisk(
                    name,
                    DeviceOf(entry),
                    node.GetString(),
                    medium.GetProperty("ro").GetBoolean(),
                    entry.GetProperty("removable").GetBoolean(),
                    medium.GetProperty("image").GetProperty("virtual-size").GetInt64(),
                    medium.GetProperty("drv").GetString(),
                    medium.GetProperty("file").GetString()
                )
            );
        }
        return disks;
    }

    /// <summary>Determines which of these disks are encrypted: by LUKS itself, or within qcow2, also below a filter.</summary>
    internal static IReadOnlyList<VmDisk> WithEncryption(IQmpMonitor qmp, IReadOnlyList<VmDisk> disks)
    {
        using QmpAnswer answer = qmp.Execute("query-named-block-nodes", QmpJson.Object(("flat", true)));
        string[] encrypted =
        [
            .. answer
                .Return.EnumerateArray()
                .Where(n => n.GetProperty("encrypted").GetBoolean() || n.GetProperty("drv").GetString() == "luks")
                .Select(n => n.GetProperty("node-name").GetString()),
        ];
        if (encrypted.Length == 0)
            return disks;
        NodeGraph graph = NodeGraph.Read(qmp);
        return [.. disks.Select(d => d with { IsEncrypted = encrypted.Any(e => graph.Reaches(d.NodeName, e)) })];
    }

    /// <summary>query-block returns a QOM path, or the bare id of a device that has one.</summary>
    private static string? DeviceOf(QmpValue entry) =>
        entry.TryGetProperty("qdev", out QmpValue q) && q.GetString() is { Length: > 0 } qdev
            ? qdev[0] == '/'
                ? qdev
                : Peripheral + qdev
            : null;
}
