using System.Diagnostics;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// The time in a stop window. QEMU stamps its events with the host's wall clock, which may be set at any moment. So the agent measures how
/// long the guest has been stopped with a clock that only advances.
/// </summary>
/// <param name="wall">The wall clock, microseconds since 1970.</param>
/// <param name="steady">A clock that is never set, microseconds.</param>
internal sealed class WindowClock(Func<long> wall, Func<long> steady)
{
    // Both clocks are slewed alike; the rest is rounding.
    private const long Slack = 50;
    private long _wall,
        _steady;
    private long? _anchor;

    /// <summary>Reads the clocks of this host.</summary>
    internal WindowClock()
        : this(Clock.NowMicroseconds, static () => Stopwatch.GetTimestamp() / (Stopwatch.Frequency / 1_000_000)) { }

    /// <summary>How long ago the window began.</summary>
    internal TimeSpan SinceBegin => TimeSpan.FromMicroseconds(steady() - _steady);

    /// <summary>Whether the wall clock was set back since the window began: events then look older than what caused them.</summary>
    internal bool IsSetBack
    {
        get
        {
            // This thread may lose the CPU between two readings. The order of the readings makes that count for the wall clock.
            long elapsed = steady() - _steady;
            return wall() - _wall < elapsed - Slack;
        }
    }

    /// <summary>Begins the window.</summary>
    /// <returns>The wall clock's time.</returns>
    internal long Begin()
    {
        _wall = wall();
        _steady = steady();
        return _wall;
    }

    /// <summary>How long ago the guest was stopped; always for the same event.</summary>
    /// <param name="stopped">The time of the event.</param>
    internal TimeSpan Since(long stopped)
    {
        long now = steady();
        _anchor ??= now - Math.Clamp(wall() - stopped, 0, now - _steady);
        return TimeSpan.FromMicroseconds(now - _anchor.Value);
    }
}
