namespace ModelCheck.Scheduling;

/// <summary>Decides who goes on.</summary>
internal interface IStrategy
{
    /// <summary>One of the threads that can go on.</summary>
    /// <param name="candidates">Their numbers, in the order in which they were started.</param>
    /// <param name="current">The one that has just run; it may not be among them.</param>
    int Choose(List<int> candidates, int current);

    /// <summary>Whether the next time-out comes although somebody could go on.</summary>
    bool PassTime();
}

/// <summary>At random: at each point another thread continues with a probability, which itself changes from schedule to schedule.</summary>
internal sealed class RandomStrategy(int seed) : IStrategy
{
    private readonly Random _random = new(seed);
    private readonly int _oneIn = 1 + (seed % 7);

    public int Choose(List<int> candidates, int current) =>
        candidates.Contains(current) && _random.Next(_oneIn) != 0 ? current : candidates[_random.Next(candidates.Count)];

    public bool PassTime() => _random.Next(400) == 0;
}

/// <summary>
/// PCT: every thread has a priority, the highest that can goes on, and at a few places, chosen beforehand, the one that runs gets the
/// lowest of all. A defect that needs d orderings is found with a probability that is known (Burckhardt and others, "A randomized scheduler
/// with probabilistic guarantees of finding bugs", 2010).
/// </summary>
internal sealed class PriorityStrategy : IStrategy
{
    private readonly Random _random;
    private readonly List<int> _priorities = [];
    private readonly HashSet<int> _changes = [];
    private int _step;
    private int _lowest;

    /// <param name="seed">The same seed makes the same choices.</param>
    /// <param name="depth">Places at which priorities change.</param>
    /// <param name="steps">About how many steps a schedule has.</param>
    internal PriorityStrategy(int seed, int depth, int steps)
    {
        _random = new Random(seed);
        for (int i = 0; i < depth; i++)
            _changes.Add(_random.Next(steps));
    }

    public int Choose(List<int> candidates, int current)
    {
        foreach (int c in candidates)
        {
            while (_priorities.Count <= c)
                _priorities.Add(1 + _random.Next(1_000_000));
        }
        if (_changes.Contains(_step++) && current < _priorities.Count)
            _priorities[current] = --_lowest;
        return candidates.MaxBy(c => _priorities[c]);
    }

    public bool PassTime() => false;
}

/// <summary>
/// Every schedule in which a thread that could have gone on is interrupted at most so many times: one run after the other, until
/// <see cref="Next"/> says that there are no more.
/// </summary>
internal sealed class ExhaustiveStrategy(int mostInterruptions) : IStrategy
{
    // Of each point of the run: which of its options was taken, and how many there were. The first option interrupts nobody.
    private readonly List<(int Taken, int Options, bool Interrupts)> _path = [];
    private int _at;

    public int Choose(List<int> candidates, int current)
    {
        bool goesOn = candidates.Remove(current);
        if (goesOn)
            candidates.Insert(0, current);
        if (_at == _path.Count)
            _path.Add((0, candidates.Count, goesOn));
        return candidates[_path[_at++].Taken];
    }

    public bool PassTime() => false;

    /// <summary>Goes to the next schedule; false: all have been run.</summary>
    internal bool Next()
    {
        _at = 0;
        while (_path.Count > 0)
        {
            (int taken, int options, bool interrupts) = _path[^1];
            _path.RemoveAt(_path.Count - 1);
            int before = _path.Count(p => p.Interrupts && p.Taken > 0);
            if (taken + 1 >= options || (interrupts && before >= mostInterruptions))
                continue;
            _path.Add((taken + 1, options, interrupts));
            return true;
        }
        return false;
    }
}
