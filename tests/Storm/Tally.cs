using System.Text.Json;

namespace Bgsnap.Storm;

/// <summary>Counts what was done, for all lanes together.</summary>
internal sealed class Tally
{
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };
    private readonly Lock _gate = new();
    private readonly SortedDictionary<string, SortedDictionary<string, long>> _counts = new(StringComparer.Ordinal);
    private readonly SortedDictionary<string, List<TimeSpan>> _times = new(StringComparer.Ordinal);

    public void Count(string section, string what, long by = 1)
    {
        lock (_gate)
        {
            if (!_counts.TryGetValue(section, out var counts))
                _counts.Add(section, counts = new(StringComparer.Ordinal));
            counts[what] = counts.GetValueOrDefault(what) + by;
        }
    }

    /// <summary>Records a duration; the report shows the median and the longest of each kind.</summary>
    public void Longest(string what, TimeSpan time)
    {
        lock (_gate)
        {
            if (!_times.TryGetValue(what, out var times))
                _times.Add(what, times = []);
            times.Add(time);
        }
    }

    public long Of(string section)
    {
        lock (_gate)
            return _counts.TryGetValue(section, out var counts) ? counts.Values.Sum() : 0;
    }

    public IEnumerable<string> Lines()
    {
        lock (_gate)
        {
            List<string> lines = [];
            foreach (var (section, counts) in _counts)
                lines.Add($"  {section}: {string.Join(", ", counts.Select(c => Invariant($"{c.Key} {c.Value}")))}");
            foreach (var (what, times) in _times)
            {
                var (median, most, longest) = (Milliseconds(times, 0.5), Milliseconds(times, 0.99), Milliseconds(times, 1));
                lines.Add(Invariant($"  {what}: median {median} ms, 99 of 100 {most} ms, longest {longest} ms ({times.Count} times)"));
            }

            return lines;
        }
    }

    public string ToJson()
    {
        lock (_gate)
        {
            return JsonSerializer.Serialize(
                new
                {
                    counts = _counts,
                    milliseconds = _times.ToDictionary(
                        t => t.Key,
                        t => new
                        {
                            times = t.Value.Count,
                            p50 = Milliseconds(t.Value, 0.5),
                            p99 = Milliseconds(t.Value, 0.99),
                            max = Milliseconds(t.Value, 1),
                        }
                    ),
                },
                Indented
            );
        }
    }

    private static long Milliseconds(List<TimeSpan> times, double share)
    {
        var sorted = times.Order().ToList();
        return (long)sorted[Math.Min(sorted.Count - 1, (int)(share * sorted.Count))].TotalMilliseconds;
    }
}
