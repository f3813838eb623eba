using Bgsnap.Engine.Capture;

namespace Bgsnap.NodeAgent.Tests.Capture;

public sealed class GuestWatchTests
{
    [Theory]
    [InlineData(0, 2000)]
    [InlineData(250, 1250)]
    [InlineData(1000, 2000)]
    [InlineData(10_000, 2000)]
    public void A_thread_may_stand_still_for_the_longest_downtime_and_a_second_but_no_longer_than_two(int maxDowntime, int limit) =>
        Assert.Equal(TimeSpan.FromMilliseconds(limit), GuestWatch.LimitFor(TimeSpan.FromMilliseconds(maxDowntime)));

    [Fact]
    public void A_heartbeat_ends_when_its_thread_rests()
    {
        using GuestWatch watch = GuestWatch.Nothing();
        GuestWatch.Heartbeat beat = watch.Add();
        Assert.Equal(0, beat.Until);
        beat.Touch();
        long first = beat.Until;
        Thread.Sleep(2);
        beat.Touch();
        Assert.True(first > 0 && beat.Until > first);
        beat.Rest();
        Assert.Equal(0, beat.Until);
    }
}
