using Bgsnap.Engine.Capture;

namespace Bgsnap.NodeAgent.Tests.Capture;

public sealed class LatencyHistogramTests
{
    [Fact]
    public void Nothing_counted_is_zero()
    {
        LatencyHistogram h = new();
        Assert.Equal((0L, 0L, 0L), (h.Count, h.Maximum, h.Percentile(0.99)));
    }

    [Fact]
    public void Percentiles_are_at_most_an_eighth_too_high_and_never_too_low()
    {
        LatencyHistogram h = new();
        // A fixed seed makes failures reproducible.
        Random random = new(20260901);
        long[] values = [.. Enumerable.Range(0, 20_000).Select(_ => (long)Math.Exp(random.NextDouble() * 20) + 8)];
        foreach (long v in values)
            h.Add(v);
        Array.Sort(values);
        Assert.Equal((values.Length, values[^1]), (h.Count, h.Maximum));
        foreach (double share in (ReadOnlySpan<double>)[0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1])
        {
            long exact = values[(int)Math.Ceiling(values.Length * share) - 1];
            Assert.InRange(h.Percentile(share), exact, exact + exact / 8 + 1);
        }
    }

    [Fact]
    public void The_few_slow_ones_do_not_move_the_median()
    {
        LatencyHistogram h = new();
        for (int i = 0; i < 99; i++)
            h.Add(1000);
        h.Add(50_000_000);
        Assert.InRange(h.Percentile(0.5), 1000, 1125);
        Assert.InRange(h.Percentile(0.99), 1000, 1125);
        Assert.Equal(50_000_000, h.Percentile(1));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-5)]
    [InlineData(1)]
    public void What_took_no_time_counts_as_a_nanosecond(long value)
    {
        LatencyHistogram h = new();
        h.Add(value);
        Assert.Equal((1L, 1L, 1L), (h.Count, h.Maximum, h.Percentile(0.5)));
    }
}
