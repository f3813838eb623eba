using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>Dirty bitmaps: ours, and those that other clients made on our node, because they see that node as the disk.</summary>
internal static class Bitmaps
{
    private const int Granularity = 65536;

    /// <summary>Has QEMU record what is written to an image from now on.</summary>
    internal static void Track(IQmpMonitor qmp, int disk, string image) =>
        qmp.Execute(
                "block-dirty-bitmap-add",
                QmpJson.Object(("node", image), ("name", AgentNames.Changed(disk)), ("granularity", Granularity), ("persistent", false))
            )
            .Dispose();

    /// <summary>Ends the recording, after every write whose completion QEMU has not recorded yet.</summary>
    internal static void StopTracking(IQmpMonitor qmp, int disk, string image)
    {
        // QEMU drains what is below a node before it reopens the node (bdrv_subtree_drained_begin(), until 8.0): reopen it with its current
        // options.
        qmp.Execute("blockdev-reopen", DiskNodes.Lead((disk, AgentNames.Filter(disk)))).Dispose();
        qmp.Execute("block-dirty-bitmap-disable", QmpJson.Object(("node", image), ("name", AgentNames.Changed(disk)))).Dispose();
    }

    /// <summary>Removes all our bitmaps; no export may show them any more.</summary>
    internal static void RemoveOurs(IQmpMonitor qmp, Undo undo)
    {
        using QmpAnswer nodes = qmp.Execute("query-named-block-nodes", QmpJson.Object(("flat", true)));
        foreach (QmpValue node in nodes.Return.EnumerateArray())
        {
            foreach (string name in NamesOf(node).Where(AgentNames.IsOurs))
            {
                undo.Try(() =>
                    qmp.Execute(
                            "block-dirty-bitmap-remove",
                            QmpJson.Object(("node", node.GetProperty("node-name").GetString()), ("name", name))
                        )
                        .Dispose()
                );
            }
        }
    }

    /// <summary>Copies them to the image below; both record meanwhile, so that nothing is missed.</summary>
    /// <exception cref="QmpException">QEMU refuses: the node stays, and the bitmap with it.</exception>
    internal static void Move(IQmpMonitor qmp, string from, string to)
    {
        List<string> actions = [];
        using QmpAnswer nodes = qmp.Execute("query-named-block-nodes", QmpJson.Object(("flat", true)));
        HashSet<string> there =
        [
            .. nodes.Return.EnumerateArray().Where(n => n.GetProperty("node-name").GetString() == to).SelectMany(NamesOf),
        ];
        foreach (QmpValue node in nodes.Return.EnumerateArray())
        {
            if (node.GetProperty("node-name").GetString() != from || !node.TryGetProperty("dirty-bitmaps", out QmpValue bitmaps))
                continue;
            foreach (QmpValue bitmap in bitmaps.EnumerateArray())
            {
                if (!bitmap.TryGetProperty("name", out QmpValue n) || n.GetString() is not { Length: > 0 } name)
                    continue;
                long granularity = bitmap.GetProperty("granularity").GetInt64();
                if (!there.Contains(name))
                    actions.Add(Action("block-dirty-bitmap-add", ("node", to), ("name", name), ("granularity", granularity)));
                string source = QmpJson.Object(("node", from), ("name", name));
                QmpJson.Raw sources = new($"[{source}]");
                actions.Add(Action("block-dirty-bitmap-merge", ("node", to), ("target", name), ("bitmaps", sources)));
            }
        }
        if (actions.Count > 0)
            qmp.Execute("transaction", QmpJson.Object(("actions", new QmpJson.Raw($"[{string.Join(',', actions)}]")))).Dispose();
    }

    private static IEnumerable<string> NamesOf(QmpValue node) =>
        node.TryGetProperty("dirty-bitmaps", out QmpValue bitmaps)
            ? bitmaps.EnumerateArray().Select(b => b.TryGetProperty("name", out QmpValue n) ? n.GetString() : null).OfType<string>()
            : [];

    private static string Action(string type, params (string, object)[] data) =>
        QmpJson.Object(("type", type), ("data", new QmpJson.Raw(QmpJson.Object(data))));
}
