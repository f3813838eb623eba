namespace Bgsnap.ControllerRuntime.Controller;

/// <summary>Pauses that double.</summary>
public static class Backoff
{
    /// <summary>
    /// The pause after this number of earlier failures: the first pause, doubled each time, at most the longest, minus a random part of up
    /// to a fifth.
    /// </summary>
    public static TimeSpan Of(int failuresBefore, TimeSpan first, TimeSpan longest)
    {
        double full = Math.Min(longest.TotalMilliseconds, first.TotalMilliseconds * Math.Pow(2, Math.Min(failuresBefore, 30)));
        return TimeSpan.FromMilliseconds(full * (1 - 0.2 * Random.Shared.NextDouble()));
    }
}
