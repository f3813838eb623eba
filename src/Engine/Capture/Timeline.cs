using System.Diagnostics;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Engine.Capture;

/// <summary>When each step of a capture was reached. Room for all marks is allocated at the start.</summary>
internal sealed class Timeline
{
    private const int Capacity = 64;
    private readonly long _began = Stopwatch.GetTimestamp();
    private readonly (string Name, long At)[] _marks = new (string, long)[Capacity];
    private int _count;

    internal void Mark(string name)
    {
        if (_count < Capacity)
            _marks[_count++] = (name, Stopwatch.GetTimestamp());
    }

    internal long Microseconds(string name)
    {
        for (int i = 0; i < _count; i++)
        {
            if (_marks[i].Name == name)
                return Offset(_marks[i].At);
        }
        throw new ArgumentException($"no mark named {name}", nameof(name));
    }

    internal long NowMicroseconds => Offset(Stopwatch.GetTimestamp());

    internal IReadOnlyList<ManifestTimelineEntry> Entries =>
        [.. _marks.Take(_count).Select(m => new ManifestTimelineEntry(m.Name, Offset(m.At)))];

    private long Offset(long at) => (long)((at - _began) * 1_000_000.0 / Stopwatch.Frequency);
}
