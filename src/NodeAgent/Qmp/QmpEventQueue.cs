namespace Bgsnap.NodeAgent.Qmp;

/// <summary>
/// Events that have come and were not looked at yet. QEMU belongs to a tenant, so what it can make grow has an end: past that the
/// conversation is broken off. None is thrown away in silence, since a STOP that is lost would make a snapshot lie.
/// </summary>
internal sealed class QmpEventQueue
{
    /// <summary>Most events at once. A machine that is well sends some in a second.</summary>
    internal const int MostEvents = 20_000;

    /// <summary>Most characters of them.</summary>
    internal const int MostCharacters = 8 << 20;
    private readonly Queue<QmpEvent> _events = new();
    private long _characters;

    /// <summary>Keeps one.</summary>
    /// <param name="e">The event.</param>
    /// <param name="from">Who sent it, for the error.</param>
    /// <exception cref="QmpException">There are too many.</exception>
    internal void Add(QmpEvent e, string from)
    {
        _characters += e.Name.Length + e.Data.Length;
        if (_events.Count == MostEvents || _characters > MostCharacters)
            throw new QmpException(
                $"{from} floods us with events: more than {MostEvents}, or {MostCharacters >> 20} Mi characters of them, at once. "
                    + "Is this QEMU sound?"
            )
            {
                Floods = true,
            };
        _events.Enqueue(e);
    }

    /// <summary>Takes all of them, oldest first.</summary>
    internal QmpEvent[] TakeAll()
    {
        QmpEvent[] taken = [.. _events];
        _events.Clear();
        _characters = 0;
        return taken;
    }

    /// <summary>The first of a name; it stays.</summary>
    internal QmpEvent? Find(string name) => _events.FirstOrDefault(e => e.Name == name);
}
