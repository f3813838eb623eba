using System.Diagnostics;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>Holds the sweep to a rate. What a guest waits for is never held back.</summary>
internal sealed class BandwidthLimit(long bytesPerSecond)
{
    private const int LongestNap = 20;
    private readonly Lock _lock = new();
    private long _freeAt;

    /// <summary>Accounts for bytes copied and sleeps until they are within the rate.</summary>
    internal void Spend(long bytes, CapturePipeline pipeline)
    {
        if (bytesPerSecond <= 0)
            return;
        long until;
        lock (_lock)
        {
            long now = Stopwatch.GetTimestamp();
            _freeAt = Math.Max(_freeAt, now) + (long)((double)bytes / bytesPerSecond * Stopwatch.Frequency);
            until = _freeAt;
        }
        for (long left; (left = (until - Stopwatch.GetTimestamp()) * 1000 / Stopwatch.Frequency) > 0 && !pipeline.IsCancelled;)
            Thread.Sleep((int)Math.Min(left, LongestNap));
    }
}
