using System.Diagnostics;

namespace Bgsnap.Engine.Restore.Instant;

/// <summary>Records which units a guest touches first, in that order, and the units behind them. Allocates nothing while it does.</summary>
internal sealed class StartRecorder
{
    private const int Capacity = 32 * 1024; // 2 GiB of units
    private static readonly TimeSpan Span = TimeSpan.FromSeconds(5);
    private readonly long[] _units = new long[Capacity];
    private long _count;
    private long _until = long.MaxValue;

    /// <summary>The guest runs now: its start is the next seconds, plus what QEMU touched when it loaded the devices.</summary>
    internal void GuestRuns() => _until = Stopwatch.GetTimestamp() + (long)(Span.TotalSeconds * Stopwatch.Frequency);

    internal void Touch(long unit)
    {
        if (Volatile.Read(ref _count) >= Capacity || Stopwatch.GetTimestamp() > Volatile.Read(ref _until))
            return;
        long at = Interlocked.Increment(ref _count) - 1;
        if (at < Capacity)
            _units[at] = unit;
    }

    /// <summary>The units that were touched, each once, in the order of the first touch.</summary>
    internal IReadOnlyList<long> Order => [.. _units.Take((int)Math.Min(_count, Capacity)).Distinct()];
}
