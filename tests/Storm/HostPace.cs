using System.Diagnostics;

namespace Bgsnap.Storm;

/// <summary>How late this process itself gets its turn: a limit for guests is longer by what their host was away.</summary>
internal static class HostPace
{
    private static readonly TimeSpan Step = TimeSpan.FromMilliseconds(100);
    private static long _lateTicks;

    /// <summary>All delays so far, of those that are worth counting.</summary>
    public static TimeSpan Late => TimeSpan.FromTicks(Interlocked.Read(ref _lateTicks));

    /// <summary>Measures from now on.</summary>
    public static void Begin()
    {
        Thread watching = new(() =>
        {
            while (true)
            {
                var before = Stopwatch.GetTimestamp();
                Thread.Sleep(Step);
                var late = Stopwatch.GetElapsedTime(before) - Step;
                if (late > TimeSpan.FromMilliseconds(200))
                    Interlocked.Add(ref _lateTicks, late.Ticks);
            }
        })
        {
            IsBackground = true,
            Name = "host-pace",
        };
        watching.Start();
    }

    /// <summary>Tries, and once more for as long as the host was away meanwhile.</summary>
    public static async Task<T> WithinAsync<T>(TimeSpan limit, Func<TimeSpan, Task<T>> attempt)
    {
        var before = Late;
        try
        {
            return await attempt(limit);
        }
        catch (TimeoutException) when (Late - before > TimeSpan.FromMilliseconds(500))
        {
            return await attempt(2 * (Late - before) + TimeSpan.FromSeconds(1));
        }
    }
}
