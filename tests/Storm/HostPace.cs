using System.Diagnostics;

namespace Bgsnap.Storm;

/// <summary>Measures how late the host schedules this process itself: limits for guests grow by the time that the host stalled.</summary>
internal static class HostPace
{
    private static readonly TimeSpan Step = TimeSpan.FromMilliseconds(100);
    private static long _lateTicks;

    /// <summary>The sum of all significant delays so far.</summary>
    public static TimeSpan Late => TimeSpan.FromTicks(Interlocked.Read(ref _lateTicks));

    /// <summary>Starts measuring.</summary>
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

    /// <summary>Tries with the limit, and once more for as long as the host stalled meanwhile.</summary>
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
