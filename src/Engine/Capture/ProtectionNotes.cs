using Bgsnap.Linux;

namespace Bgsnap.Engine.Capture;

/// <summary>Granules that the guest wrote while memory was protected ahead of the point in time; they have to be protected again.</summary>
/// <remarks>One writer (the fault thread), one taker. If there are more notes than fit, all memory is protected again.</remarks>
internal sealed class ProtectionNotes
{
    private const int Capacity = 64 * 1024;
    private readonly long[] _notes = new long[Capacity];
    private readonly long[] _taken = new long[Capacity];
    private readonly FutexLock _lock = new();
    private int _count;

    internal int Count => Volatile.Read(ref _count);

    internal void Add(long granule)
    {
        using (_lock.Enter())
        {
            if (_count < Capacity)
                _notes[_count] = granule;
            _count++;
        }
    }

    /// <summary>Takes the recorded granules, sorted.</summary>
    /// <param name="overflow">There were more than fit: protect everything.</param>
    internal ReadOnlySpan<long> Take(out bool overflow)
    {
        using (_lock.Enter())
        {
            overflow = _count > Capacity;
            int count = Math.Min(_count, Capacity);
            _notes.AsSpan(0, count).CopyTo(_taken);
            _count = 0;
            Span<long> taken = _taken.AsSpan(0, count);
            taken.Sort();
            return taken;
        }
    }
}
