using System.Text.Json;
using Bgsnap.Engine.Disks;
using Bgsnap.Engine.Disks.Graph;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Restore;

/// <summary>The drives of a waiting QEMU, and the nodes of their images.</summary>
internal sealed class TargetNodes : IDisposable
{
    /// <summary>Filters that do not change the image's content. libvirt puts throttle between a device and its disk.</summary>
    private static readonly string[] PassedThrough = ["throttle", "copy-on-read"];

    private readonly QmpAnswer _drives;
    private readonly QmpAnswer _nodes;
    private readonly NodeGraph _graph;

    private TargetNodes(QmpAnswer drives, QmpAnswer nodes, NodeGraph graph)
    {
        (_drives, _nodes, _graph) = (drives, nodes, graph);
        Drives = DiskName.OfAll(drives.Return);
    }

    /// <summary>Entries of query-block, by disk name; valid until this is disposed.</summary>
    internal IReadOnlyList<(string Name, QmpValue Entry)> Drives { get; }

    /// <summary>Asks QEMU.</summary>
    internal static TargetNodes Read(IQmpMonitor qmp) =>
        new(qmp.Execute("query-block"), qmp.Execute("query-named-block-nodes", QmpJson.Object(("flat", false))), NodeGraph.Read(qmp));

    /// <summary>What a drive's <c>inserted</c> says about the image itself, below filters.</summary>
    internal QmpValue ImageOf(QmpValue inserted)
    {
        QmpValue node = inserted;
        while (
            PassedThrough.Contains(node.GetProperty("drv").GetString())
            && node.TryGetProperty("node-name", out QmpValue name)
            && _graph.FileOf(name.GetString()) is { } below
            && Find(below) is { ValueKind: JsonValueKind.Object } next
        )
            node = next;
        return node;
    }

    private QmpValue Find(string node) =>
        _nodes.Return.EnumerateArray().FirstOrDefault(n => n.GetProperty("node-name").GetString() == node);

    /// <inheritdoc/>
    public void Dispose()
    {
        _drives.Dispose();
        _nodes.Dispose();
    }
}
