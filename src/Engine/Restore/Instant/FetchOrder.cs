namespace Bgsnap.Engine.Restore.Instant;

/// <summary>
/// The order in which to load units that no thread waits for: first what an earlier start of the guest touched, then what lies behind the
/// last fault, then everything else from the beginning.
/// </summary>
internal sealed class FetchOrder(LazyRam ram, IReadOnlyList<long> recorded, StartRecorder recorder)
{
    private const int Behind = 16; // units: 1 MiB
    private readonly Lock _lock = new();
    private int _recordedAt;
    private long _near;
    private long _nearEnd;
    private long _sweep;

    /// <summary>A thread waited for this unit; the guest is likely to touch the next ones soon.</summary>
    internal void Follow(long unit)
    {
        lock (_lock)
            (_near, _nearEnd) = (unit + 1, Math.Min(unit + 1 + Behind, ram.Units));
    }

    /// <summary>Claims the next missing unit; -1: no unit is missing.</summary>
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
                recorder.Touch(_near - 1); // the guest finds it there and never faults, so nothing else would record it
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

    /// <summary>Starts over: units have become missing again.</summary>
    internal void Restart()
    {
        lock (_lock)
            _sweep = 0;
    }
}
