namespace Bgsnap.ControllerRuntime.Controller;

/// <summary>
/// A queue of keys to reconcile. A key is in it at most once, is never handed to two workers at a time, and is handed out again if it was
/// added while a worker had it. Each key waits longer with each of its own failures.
/// </summary>
public sealed class WorkQueue(TimeProvider? clock = null) : IDisposable
{
    private static readonly TimeSpan First = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan Longest = TimeSpan.FromMinutes(2);
    private readonly TimeProvider _clock = clock ?? TimeProvider.System;
    private readonly Lock _gate = new();
    private readonly Queue<ObjectKey> _ready = new();
    private readonly HashSet<ObjectKey> _waiting = [];
    private readonly HashSet<ObjectKey> _taken = [];
    private readonly Dictionary<ObjectKey, int> _failures = [];
    private readonly PriorityQueue<ObjectKey, long> _delayed = new();
    private readonly Dictionary<ObjectKey, long> _due = [];
    private readonly SemaphoreSlim _signal = new(0);

    /// <summary>Number of keys that could be handed out now.</summary>
    public int Depth
    {
        get
        {
            lock (_gate)
                return _ready.Count;
        }
    }

    /// <summary>Adds a key, to be handed out at once.</summary>
    public void Add(ObjectKey key)
    {
        lock (_gate)
        {
            if (!_waiting.Add(key) || _taken.Contains(key))
                return;
            _ready.Enqueue(key);
            Wake();
        }
    }

    /// <summary>Adds a key after a delay. If a key is added several times, the earliest time counts.</summary>
    public void AddAfter(ObjectKey key, TimeSpan delay)
    {
        if (delay <= TimeSpan.Zero)
        {
            Add(key);
            return;
        }
        lock (_gate)
        {
            long due = (_clock.GetUtcNow() + delay).UtcTicks;
            // If each call counted, every look at a key would start another series of later looks.
            if (_due.TryGetValue(key, out long earlier) && earlier <= due)
                return;
            _due[key] = due;
            _delayed.Enqueue(key, due);
            Wake();
        }
    }

    /// <summary>Adds a key after a pause that doubles with each failure of that key.</summary>
    /// <returns>The pause.</returns>
    public TimeSpan AddAfterFailure(ObjectKey key)
    {
        int before;
        lock (_gate)
            before = _failures[key] = _failures.GetValueOrDefault(key) + 1;
        TimeSpan pause = Backoff.Of(before - 1, First, Longest);
        AddAfter(key, pause);
        return pause;
    }

    /// <summary>Resets the failure count of a key.</summary>
    public void Forget(ObjectKey key)
    {
        lock (_gate)
            _failures.Remove(key);
    }

    /// <summary>Waits for a key and takes it; the caller must then call <see cref="Done"/>.</summary>
    public async Task<ObjectKey> Take(CancellationToken stop)
    {
        while (true)
        {
            TimeSpan wait;
            lock (_gate)
            {
                MoveDue();
                if (_ready.TryDequeue(out ObjectKey key))
                {
                    _waiting.Remove(key);
                    _taken.Add(key);
                    // This worker no longer watches the queue and the clock: another, idle worker must.
                    if (_ready.Count + _delayed.Count > 0)
                        Wake();
                    return key;
                }
                wait = _delayed.TryPeek(out _, out long due)
                    ? TimeSpan.FromTicks(due - _clock.GetUtcNow().UtcTicks)
                    : Timeout.InfiniteTimeSpan;
            }
            using var timer = CancellationTokenSource.CreateLinkedTokenSource(stop);
            Task timeout =
                wait == Timeout.InfiniteTimeSpan
                    ? Task.Delay(wait, timer.Token)
                    : Task.Delay(wait > TimeSpan.Zero ? wait : TimeSpan.Zero, _clock, timer.Token);
            Task signal = _signal.WaitAsync(timer.Token);
            await Task.WhenAny(timeout, signal).ConfigureAwait(false);
            await timer.CancelAsync().ConfigureAwait(false);
            await signal.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            stop.ThrowIfCancellationRequested();
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _signal.Dispose();

    /// <summary>Returns a key that was taken.</summary>
    public void Done(ObjectKey key)
    {
        lock (_gate)
        {
            _taken.Remove(key);
            if (!_waiting.Contains(key))
                return;
            _ready.Enqueue(key);
            Wake();
        }
    }

    // At most one signal: a worker that takes a key wakes the next worker. With a signal for each key, signals would be left over whenever
    // a busy worker takes a key without waiting, and idle workers would spin through them.
    private void Wake()
    {
        if (_signal.CurrentCount == 0)
            _signal.Release();
    }

    private void MoveDue()
    {
        long now = _clock.GetUtcNow().UtcTicks;
        while (_delayed.TryPeek(out ObjectKey key, out long due) && due <= now)
        {
            _delayed.Dequeue();
            if (!_due.TryGetValue(key, out long counts) || counts != due)
                continue; // an earlier time took its place
            _due.Remove(key);
            if (_waiting.Add(key) && !_taken.Contains(key))
                _ready.Enqueue(key);
        }
    }
}
