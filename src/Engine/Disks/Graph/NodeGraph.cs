using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>
/// QEMU's block graph at one moment, with the users of each node. <c>query-block</c> alone does not show them: it skips the filters of
/// jobs.
/// </summary>
internal sealed class NodeGraph
{
    private readonly Dictionary<ulong, (string Kind, string Name)> _things = [];
    private readonly List<(ulong Parent, ulong Child, string Role)> _edges = [];

    private NodeGraph() { }

    /// <summary>Reads the graph.</summary>
    internal static NodeGraph Read(IQmpMonitor qmp)
    {
        using QmpAnswer answer = qmp.Execute("x-debug-query-block-graph");
        return Of(answer.Return);
    }

    /// <summary>Parses what x-debug-query-block-graph returned.</summary>
    internal static NodeGraph Of(QmpValue graph)
    {
        NodeGraph made = new();
        foreach (QmpValue n in graph.GetProperty("nodes").EnumerateArray())
            made._things[n.GetProperty("id").GetUInt64()] = (n.GetProperty("type").GetString(), n.GetProperty("name").GetString());
        foreach (QmpValue e in graph.GetProperty("edges").EnumerateArray())
            made._edges.Add((e.GetProperty("parent").GetUInt64(), e.GetProperty("child").GetUInt64(), e.GetProperty("name").GetString()));
        return made;
    }

    /// <summary>Whether a block node of that name exists.</summary>
    internal bool Has(string node) => _things.Values.Any(t => t.Kind == BlockDriver && t.Name == node);

    /// <summary>Names of all block nodes.</summary>
    internal IEnumerable<string> Nodes => _things.Values.Where(t => t.Kind == BlockDriver).Select(t => t.Name);

    /// <summary>The node below a node as its <c>file</c>; null without such a node.</summary>
    internal string? FileOf(string node) =>
        _edges.Where(e => IsNode(e.Parent, node) && e.Role == "file").Select(e => _things[e.Child].Name).FirstOrDefault();

    /// <summary>Block nodes and jobs that use a node; devices and exports are not included.</summary>
    internal IReadOnlyList<string> UsersOf(string node) =>
        [
            .. _edges
                .Where(e => IsNode(e.Child, node) && _things[e.Parent].Kind != BlockBackend)
                .Select(e => _things[e.Parent].Name)
                .Distinct(),
        ];

    /// <summary>Whether a device, an export or a job's own access has a node as its root.</summary>
    internal bool IsRoot(string node) => _edges.Any(e => IsNode(e.Child, node) && _things[e.Parent].Kind == BlockBackend);

    /// <summary>Whether a path leads down from a job or node to a node.</summary>
    internal bool Reaches(string from, string node)
    {
        HashSet<ulong> seen = [.. _things.Where(t => t.Value.Name == from && t.Value.Kind != BlockBackend).Select(t => t.Key)];
        Queue<ulong> open = new(seen);
        while (open.TryDequeue(out ulong at))
        {
            if (IsNode(at, node))
                return true;
            foreach ((_, ulong child, _) in _edges.Where(e => e.Parent == at))
            {
                if (seen.Add(child))
                    open.Enqueue(child);
            }
        }
        return false;
    }

    private const string BlockDriver = "block-driver",
        BlockBackend = "block-backend";

    private bool IsNode(ulong id, string name) => _things.TryGetValue(id, out var t) && t.Kind == BlockDriver && t.Name == name;
}
