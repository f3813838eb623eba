using Bgsnap.ControllerRuntime.Controller;

namespace Bgsnap.Operator.Shared;

/// <summary>
/// Limits how many snapshots or restores work on a node at once. The oldest goes first; when a place becomes free, the queue calls the next
/// one. The leader keeps the queue in memory and rebuilds it from tasks and phases when it starts.
/// </summary>
internal sealed class NodeQueue(int perNode, Action<ObjectKey> call)
{
    private readonly Lock _gate = new();
    private readonly Dictionary<string, Node> _nodes = [];
    private readonly Dictionary<ObjectKey, string> _nodeOf = [];

    /// <summary>Takes a place on a node, or a position in its queue.</summary>
    /// <param name="node">The node.</param>
    /// <param name="key">The object that asks.</param>
    /// <param name="created">Its creation time; the oldest goes first.</param>
    /// <returns>0: it has a place. Otherwise its position in the queue, from 1.</returns>
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

    /// <summary>Takes a place regardless of the limit: a new leader finds that the object is already at work.</summary>
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

    /// <summary>Frees the object's place, or removes it from the queue.</summary>
    public void Leave(ObjectKey key)
    {
        List<ObjectKey> next;
        lock (_gate)
            next = LeaveLocked(key);
        foreach (ObjectKey k in next)
            call(k);
    }

    /// <summary>The number of waiting objects by node.</summary>
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
