using System.Numerics;

namespace Bgsnap.Engine.Capture;

/// <summary>Counts durations in buckets an eighth of a power of two wide (at most 12.5 % off), without allocating. One writer.</summary>
internal sealed class LatencyHistogram
{
    private const int SubBits = 3;
    private readonly long[] _buckets = new long[64 << SubBits];
    private long _count;
    private long _maximum;

    internal long Count => Volatile.Read(ref _count);

    /// <summary>The longest duration, in nanoseconds.</summary>
    internal long Maximum => Volatile.Read(ref _maximum);

    internal void Add(long nanoseconds)
    {
        nanoseconds = Math.Max(nanoseconds, 1);
        int log = BitOperations.Log2((ulong)nanoseconds);
        int sub = log < SubBits ? 0 : (int)(nanoseconds >> (log - SubBits)) & ((1 << SubBits) - 1);
        _buckets[(log << SubBits) | sub]++;
        if (nanoseconds > _maximum)
            _maximum = nanoseconds;
        Volatile.Write(ref _count, _count + 1);
    }

    /// <summary>Adds another histogram's counts. No other thread may add to this one meanwhile.</summary>
    internal void Add(LatencyHistogram other)
    {
        for (int i = 0; i < _buckets.Length; i++)
            _buckets[i] += Volatile.Read(ref other._buckets[i]);
        _maximum = Math.Max(_maximum, other.Maximum);
        _count = _buckets.Sum();
    }

    /// <summary>
    /// The duration that the given share of all durations stay under, in nanoseconds (upper edge of its bucket); 0 without any.
    /// </summary>
    internal long Percentile(double share)
    {
        long rank = (long)Math.Ceiling(_count * share),
            seen = 0;
        for (int i = 0; i < _buckets.Length && rank > 0; i++)
        {
            seen += _buckets[i];
            if (seen < rank)
                continue;
            int log = i >> SubBits,
                sub = i & ((1 << SubBits) - 1);
            long edge = log < SubBits ? 2L << log : (1L << log) + ((sub + 1L) << (log - SubBits));
            return Math.Min(edge, _maximum);
        }
        return _maximum;
    }
}
