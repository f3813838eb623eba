using Bgsnap.Engine.Capture;

namespace Bgsnap.NodeAgent.Tests.Capture;

/// <summary>The stop window begins at 1,000,000 of the wall clock and at 500 of the steady one. Microseconds.</summary>
public sealed class WindowClockTests
{
    private const long Hour = 3_600_000_000;
    private long _wall = 1_000_000,
        _steady = 500;
    private readonly WindowClock _clock;

    public WindowClockTests()
    {
        _clock = new WindowClock(() => _wall, () => _steady);
        _ = _clock.Begin();
    }

    [Theory]
    [InlineData(2000, false)]
    [InlineData(1980, false)] // rounding
    [InlineData(1900, true)]
    [InlineData(2000 - Hour, true)]
    [InlineData(2000 + Hour, false)] // the order of events stays
    public void A_clock_that_was_set_back_is_seen(long wall, bool setBack)
    {
        Pass(steady: 2000, wall);

        Assert.Equal(setBack, _clock.IsSetBack);
    }

    /// <summary>A thread that loses the CPU between two readings is no clock that was set back.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_pause_between_two_readings_is_no_change_of_the_clock(bool atBegin)
    {
        long now = 0;
        bool pauses = atBegin;
        long Read(long origin)
        {
            long at = origin + now;
            if (pauses)
                now += 20_000;
            return at;
        }
        WindowClock clock = new(() => Read(1_000_000), () => Read(500));
        _ = clock.Begin();
        pauses = !atBegin;
        now += 1000;

        Assert.False(clock.IsSetBack);
    }

    [Theory]
    [InlineData(0, 3000)]
    [InlineData(-Hour, 3000)] // a limit on the guest's stop does not wait for an hour to pass again
    [InlineData(Hour, 3000)] // and is not reached at once
    public void How_long_the_guest_is_stopped_does_not_depend_on_the_wall_clock(long step, long expected)
    {
        Pass(100, 100);
        long stopped = _wall;
        Pass(50, 50);
        Assert.Equal(50, _clock.Since(stopped).TotalMicroseconds);

        Pass(2950, 2950 + step);

        Assert.Equal(expected, _clock.Since(stopped).TotalMicroseconds);
    }

    [Theory]
    [InlineData(-Hour, 0)] // not known better: it counts from when the event was seen
    [InlineData(Hour, 150)] // never more than since the stop was sent
    public void A_clock_set_before_the_event_was_seen_is_bounded_by_the_window(long step, long expected)
    {
        Pass(100, 100);
        long stopped = _wall;
        Pass(50, 50 + step);

        Assert.Equal(expected, _clock.Since(stopped).TotalMicroseconds);
        Pass(1000, 1000);
        Assert.Equal(expected + 1000, _clock.Since(stopped).TotalMicroseconds);
    }

    private void Pass(long steady, long wall) => (_steady, _wall) = (_steady + steady, _wall + wall);
}
