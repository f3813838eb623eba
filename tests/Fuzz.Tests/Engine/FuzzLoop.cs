namespace Bgsnap.Fuzz.Engine;

/// <summary>What a run did.</summary>
/// <param name="Executions">Inputs read.</param>
/// <param name="Kept">Inputs that took new edges.</param>
/// <param name="Edges">Edges and classes of hits; 0 without instrumentation.</param>
internal sealed record FuzzRun(long Executions, int Kept, int Edges);

/// <summary>Reads the corpus, then mutations of it; where edges are counted, what takes new ones is mutated further.</summary>
/// <param name="target">The reader.</param>
/// <param name="seed">The same seed makes the same inputs of the same corpus.</param>
/// <param name="found">Called with every input that breaks a promise.</param>
/// <param name="kept">Called with every input that takes new edges.</param>
internal sealed class FuzzLoop(FuzzTarget target, ulong seed, Action<byte[], Finding> found, Action<byte[]>? kept = null)
{
    private readonly Prng _random = new(seed);
    private readonly List<byte[]> _pool = [];
    private readonly Execution _execution = new(target);
    private long _executions;
    private int _kept;

    /// <summary>Runs until told to end.</summary>
    /// <param name="corpus">Inputs to begin with, beside the reader's own samples.</param>
    /// <param name="goesOn">Asked before every mutation, with the number of inputs read.</param>
    internal FuzzRun Run(IEnumerable<byte[]> corpus, Func<long, bool> goesOn)
    {
        Coverage coverage = new();
        using LoopWatch watch = new((input, why) => found(input, new Finding("loop", why)));
        foreach (byte[] input in target.Samples().Concat(corpus))
        {
            _pool.Add(input);
            Execute(input, watch, coverage);
        }
        bool guided = Coverage.IsOn;
        Mutator mutator = new(_random, target);
        while (goesOn(_executions))
        {
            byte[] input = mutator.Mutate(Choose(), _random.Pick(_pool));
            if (!Execute(input, watch, coverage) || !guided)
                continue;
            _pool.Add(input);
            _kept++;
            kept?.Invoke(input);
        }
        return new FuzzRun(_executions, _kept, guided ? coverage.Count : 0);
    }

    // Late ones were the hardest to reach.
    private byte[] Choose() => _random.OneIn(2) ? _random.Pick(_pool) : _pool[_pool.Count - 1 - _random.Below(Math.Min(_pool.Count, 32))];

    private bool Execute(byte[] input, LoopWatch watch, Coverage coverage)
    {
        Coverage.Clear();
        watch.Begin(input);
        _executions++;
        if (_execution.Run(input) is { } finding)
            found(input, finding);
        return coverage.IsNew();
    }
}
