using Bgsnap.Crds.Controller;

namespace Bgsnap.Operator.Snapshots;

/// <summary>
/// Which snapshots may be at work on a node at once. Oldest first; whoever waits is called when a place is free. The leader keeps it in
/// memory and fills it from the snapshots' phases when it starts.
/// </summary>
internal sealed class NodeQueue(int perNode, Action<ObjectKey> call)
{
    private readonly Lock _gate = new();
    private readonly Dictionary<string, Node> _nodes = [];
    private readonly Dictionary<ObjectKey, string> _nodeOf = [];

    /// <summary>Takes a place, or stands in the queue.</summary>
    /// <param name="node">The node.</param>
    /// <param name="key">Who asks.</param>
    /// <param name="created">The older is served first.</param>
    /// <returns>0: it has a place. Else its number in the queue, 1 for the next.</returns>
    public int Enter(string node, ObjectKey key, DateTime created)
    {
        LeaveOther(node, key);
        lock (_gate)
        {
            Node n = Of(node);
            _nodeOf[key] = node;
            if (n.Working.Contains(key))
                return 0;
            n.Waiting.Add((created, key.ToString(), key));
            int ahead = n.Waiting.TakeWhile(w => w.Key != key).Count();
            if (ahead + n.Working.Count >= perNode)
                return ahead + 1;
            n.Waiting.Remove((created, key.ToString(), key));
            n.Working.Add(key);
            return 0;
        }
    }

    /// <summary>Takes a place without asking: it is at work already, as a leader finds when it starts.</summary>
    public void Resume(string node, ObjectKey key)
    {
        LeaveOther(node, key);
        lock (_gate)
        {
            Node n = Of(node);
            _nodeOf[key] = node;
            n.Waiting.RemoveWhere(w => w.Key == key);
            n.Working.Add(key);
        }
    }

    /// <summary>Gives the place back, or leaves the queue.</summary>
    public void Leave(ObjectKey key)
    {
        List<ObjectKey> next;
        lock (_gate)
            next = LeaveLocked(key);
        foreach (ObjectKey k in next)
            call(k);
    }

    /// <summary>How many wait, by node.</summary>
    public IReadOnlyDictionary<string, int> WaitingByNode()
    {
        lock (_gate)
            return _nodes.ToDictionary(p => p.Key, p => p.Value.Waiting.Count);
    }

    private void LeaveOther(string node, ObjectKey key)
    {
        bool other;
        lock (_gate)
            other = _nodeOf.TryGetValue(key, out string? before) && before != node;
        if (other)
            Leave(key);
    }

    private List<ObjectKey> LeaveLocked(ObjectKey key)
    {
        if (!_nodeOf.Remove(key, out string? node))
            return [];
        Node n = _nodes[node];
        n.Working.Remove(key);
        n.Waiting.RemoveWhere(w => w.Key == key);
        if (n.Working.Count == 0 && n.Waiting.Count == 0)
            _nodes.Remove(node);
        return [.. n.Waiting.Take(Math.Max(0, perNode - n.Working.Count)).Select(w => w.Key)];
    }

    private Node Of(string node)
    {
        if (!_nodes.TryGetValue(node, out Node? n))
            _nodes[node] = n = new Node();
        return n;
    }

    private sealed class Node
    {
        public HashSet<ObjectKey> Working { get; } = [];
        public SortedSet<(DateTime Created, string Name, ObjectKey Key)> Waiting { get; } =
            new(
                Comparer<(DateTime Created, string Name, ObjectKey Key)>.Create(
                    (a, b) => a.Created != b.Created ? a.Created.CompareTo(b.Created) : string.CompareOrdinal(a.Name, b.Name)
                )
            );
    }
}
