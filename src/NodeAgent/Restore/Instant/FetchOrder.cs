namespace Bgsnap.NodeAgent.Restore.Instant;

/// <summary>
/// In what order units are brought in that nobody waits for: what an earlier start of the guest touched, then what lies behind the last
/// fault, then everything else from the beginning.
/// </summary>
internal sealed class FetchOrder(LazyRam ram, IReadOnlyList<long> recorded, StartRecorder recorder)
{
    private const int Behind = 16; // units: 1 MiB
    private readonly Lock _lock = new();
    private int _recordedAt;
    private long _near;
    private long _nearEnd;
    private long _sweep;

    /// <summary>Somebody waited for this unit; the next ones are likely to be touched soon.</summary>
    internal void Follow(long unit)
    {
        lock (_lock)
            (_near, _nearEnd) = (unit + 1, Math.Min(unit + 1 + Behind, ram.Units));
    }

    /// <summary>Claims the next unit; -1: none is missing.</summary>
    internal long Claim()
    {
        lock (_lock)
        {
            while (_recordedAt < recorded.Count)
            {
                if (ram.TryClaim(recorded[_recordedAt++]))
                    return recorded[_recordedAt - 1];
            }
            while (_near < _nearEnd)
            {
                if (!ram.TryClaim(_near++))
                    continue;
                recorder.Touch(_near - 1); // else nobody would learn of it: the guest finds it there
                return _near - 1;
            }
            while (_sweep < ram.Units)
            {
                if (ram.TryClaim(_sweep++))
                    return _sweep - 1;
            }
            return -1;
        }
    }

    /// <summary>Begins again: something has become missing anew.</summary>
    internal void Restart()
    {
        lock (_lock)
            _sweep = 0;
    }
}
