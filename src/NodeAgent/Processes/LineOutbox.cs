namespace Bgsnap.NodeAgent.Processes;

/// <summary>
/// Writes lines on a thread of its own, so that a reader that does not read, or a full pipe, holds up nothing else.
/// </summary>
/// <remarks>Of progress lines only the latest counts: it replaces one that could not be written yet.</remarks>
internal sealed class LineOutbox
{
    private readonly object _lock = new();
    private readonly Queue<string> _lines = new();
    private string? _latest;
    private bool _writing;

    internal LineOutbox()
        : this(Console.Out.WriteLine) { }

    /// <param name="write">Writes one line; an exception means that the reader is gone.</param>
    internal LineOutbox(Action<string> write) => Linux.AgentThread.Start("lines", () => Run(write), failed: _ => { });

    /// <summary>Offers a progress line. Never waits.</summary>
    internal void Offer(string line)
    {
        lock (_lock)
        {
            _latest = line;
            Monitor.PulseAll(_lock);
        }
    }

    /// <summary>Queues a line that must not be lost, behind the latest progress line. There are few of them.</summary>
    internal void Say(string line)
    {
        lock (_lock)
        {
            if (_latest is { } progress)
                _lines.Enqueue(progress);
            _latest = null;
            _lines.Enqueue(line);
            Monitor.PulseAll(_lock);
        }
    }

    /// <summary>Waits until every line has been written.</summary>
    /// <param name="patience">How long; <see cref="Timeout.InfiniteTimeSpan"/>: for ever.</param>
    /// <returns>False: nobody reads.</returns>
    internal bool Flush(TimeSpan patience)
    {
        long end = patience < TimeSpan.Zero ? long.MaxValue : Environment.TickCount64 + (long)patience.TotalMilliseconds;
        lock (_lock)
        {
            while (_writing || _latest is not null || _lines.Count > 0)
            {
                if (end - Environment.TickCount64 is var left && (left <= 0 || !Monitor.Wait(_lock, (int)Math.Min(left, int.MaxValue))))
                    return false;
            }
            return true;
        }
    }

    private void Run(Action<string> write)
    {
        while (true)
        {
            string line = Next();
            try
            {
                write(line);
            }
            catch (Exception)
            {
                // The reader is gone; Flush must not wait for ever.
            }
        }
    }

    private string Next()
    {
        lock (_lock)
        {
            _writing = false;
            Monitor.PulseAll(_lock);
            string? line;
            while (!_lines.TryDequeue(out line))
            {
                if ((line = _latest) is not null)
                    break;
                Monitor.Wait(_lock);
            }
            if (ReferenceEquals(line, _latest))
                _latest = null;
            _writing = true;
            return line;
        }
    }
}
