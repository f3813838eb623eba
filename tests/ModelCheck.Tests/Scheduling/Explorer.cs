namespace ModelCheck.Scheduling;

/// <summary>A schedule in which something went wrong.</summary>
/// <param name="Schedule">Its number: with it, it runs again.</param>
/// <param name="Failure">What went wrong.</param>
internal sealed record Counterexample(int Schedule, string Failure);

/// <summary>Tries a body in many orders.</summary>
internal static class Explorer
{
    private const int MostSteps = 60_000;

    /// <summary>Schedule n of a body is random for an even n, by priorities for an odd one; the number is its seed.</summary>
    /// <param name="body">Makes everything that it uses.</param>
    /// <param name="first">Number of the first schedule.</param>
    /// <param name="count">How many at most; the first that fails is the last.</param>
    internal static Counterexample? Sample(Action body, int first, int count)
    {
        int steps = 400;
        for (int n = first; n < first + count; n++)
        {
            IStrategy strategy = n % 2 == 0 ? new RandomStrategy(n) : new PriorityStrategy(n, 1 + (n / 2 % 4), steps);
            Outcome outcome = Scheduler.Run(body, strategy, MostSteps);
            if (outcome.Failure is { } failure)
                return new Counterexample(n, failure);
        }
        return null;
    }

    /// <summary>All schedules with at most so many interruptions.</summary>
    /// <returns>The counterexample, if there is one, and how many schedules there were.</returns>
    internal static (Counterexample? Found, int Schedules) Exhaust(Action body, int mostInterruptions, int mostSchedules)
    {
        ExhaustiveStrategy strategy = new(mostInterruptions);
        for (int n = 1; ; n++)
        {
            Outcome outcome = Scheduler.Run(body, strategy, MostSteps);
            if (outcome.Failure is { } failure)
                return (new Counterexample(n, failure), n);
            if (!strategy.Next())
                return (null, n);
            if (n == mostSchedules)
                throw new InvalidOperationException($"there are more than {mostSchedules} schedules");
        }
    }
}
