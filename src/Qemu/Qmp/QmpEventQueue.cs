namespace Bgsnap.Qemu.Qmp;

/// <summary>
/// Events that have arrived but were not taken yet. QEMU belongs to a tenant, so the queue has a limit; past it the agent breaks off the
/// connection. It drops no event silently, because a lost STOP would make a snapshot wrong.
/// </summary>
internal sealed class QmpEventQueue
{
    /// <summary>Most events at once. A healthy machine sends a few a second.</summary>
    internal const int MostEvents = 20_000;

    /// <summary>Most characters of all events.</summary>
    internal const int MostCharacters = 8 << 20;
    private readonly Queue<QmpEvent> _events = new();
    private long _characters;

    /// <summary>Adds an event.</summary>
    /// <param name="e">The event.</param>
    /// <param name="from">The sender, for the error message.</param>
    /// <exception cref="QmpException">There are too many events.</exception>
    internal void Add(QmpEvent e, string from)
    {
        _characters += e.Name.Length + e.Data.Length;
        if (_events.Count == MostEvents || _characters > MostCharacters)
            throw new QmpException(
                $"{from} floods the agent with events: more than {MostEvents}, or {MostCharacters >> 20} Mi characters of them, at once. "
                    + "This QEMU is broken or hostile"
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

    /// <summary>The first event of that name; it stays in the queue.</summary>
    internal QmpEvent? Find(string name) => _events.FirstOrDefault(e => e.Name == name);
}
