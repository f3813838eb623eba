using ModelCheck.Model;
using ModelCheck.Scheduling;
using Xunit.Abstractions;

[assembly: CollectionBehavior(DisableTestParallelization = true)]

namespace ModelCheck;

/// <summary>The queue between the threads of a capture, in every order with up to so many interruptions.</summary>
public sealed class QueueTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(2, 1, 1)]
    [InlineData(1, 2, 1)]
    public void Nothing_that_is_added_before_the_end_is_lost(int buffers, int takers, int interruptions)
    {
        (Counterexample? found, int schedules) = Explorer.Exhaust(
            () => QueueModel.Run(new RealQueue(), buffers, takers),
            interruptions,
            100_000
        );

        output.WriteLine($"{schedules} schedules, all with up to {interruptions} interruption");
        Assert.True(found is null, found?.ToString());
        Assert.True(schedules > 100, $"only {schedules} schedules");
    }

    /// <summary>More buffers, takers and interruptions, of which not all orders can be tried.</summary>
    [Fact]
    public void Nothing_is_lost_in_orders_taken_at_random()
    {
        Counterexample? found = Explorer.Sample(() => QueueModel.Run(new RealQueue(), 4, 3), 1, 300);

        Assert.True(found is null, found?.ToString());
    }

    [Fact]
    public void The_check_finds_a_taker_that_looks_whether_the_queue_is_closed_after_it_found_it_empty()
    {
        (Counterexample? found, int schedules) = Explorer.Exhaust(() => QueueModel.Run(new QueueAsItWas(), 1, 1), 1, 20_000);

        output.WriteLine($"found in schedule {schedules}: {found?.Failure}");
        Assert.Contains("buffers were added", found?.Failure, StringComparison.Ordinal);
    }
}
