using System.Diagnostics;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>Holds the copying of RAM and disks together to a rate. What a guest waits for is never held back.</summary>
internal sealed class BandwidthLimit(long bytesPerSecond)
{
    private const int LongestNap = 20;
    private readonly Lock _lock = new();
    private long _freeAt;

    /// <summary>Accounts for bytes copied and sleeps until they are within the rate.</summary>
    internal void Spend(long bytes, CapturePipeline pipeline)
    {
        for (long until = Account(bytes); !pipeline.IsCancelled && Nap(until);)
        {
        }
    }

    /// <summary>The same for a copy that ends by a token.</summary>
    internal void Spend(long bytes, CancellationToken cancel)
    {
        for (long until = Account(bytes); !cancel.IsCancellationRequested && Nap(until);)
        {
        }
    }

    private long Account(long bytes)
    {
        if (bytesPerSecond <= 0)
            return 0;
        lock (_lock)
        {
            _freeAt = Math.Max(_freeAt, Stopwatch.GetTimestamp()) + (long)((double)bytes / bytesPerSecond * Stopwatch.Frequency);
            return _freeAt;
        }
    }

    private static bool Nap(long until)
    {
        if (until == 0)
            return false;
        long left = (until - Stopwatch.GetTimestamp()) * 1000 / Stopwatch.Frequency;
        if (left <= 0)
            return false;
        Thread.Sleep((int)Math.Min(left, LongestNap));
        return true;
    }
}
