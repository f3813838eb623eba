namespace Bgsnap.Crds.Controller;

/// <summary>Waiting times that double.</summary>
public static class Backoff
{
    /// <summary>
    /// The pause after so many failures before: first, doubled each time, at most the longest, less up to a fifth by chance.
    /// </summary>
    public static TimeSpan Of(int failuresBefore, TimeSpan first, TimeSpan longest)
    {
        double full = Math.Min(longest.TotalMilliseconds, first.TotalMilliseconds * Math.Pow(2, Math.Min(failuresBefore, 30)));
        return TimeSpan.FromMilliseconds(full * (1 - 0.2 * Random.Shared.NextDouble()));
    }
}
