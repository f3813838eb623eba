using System.Diagnostics;
using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>Holds the copying of RAM and disks together to a rate. What a guest waits for is never held back.</summary>
internal sealed class BandwidthLimit(long bytesPerSecond)
{
    private const int LongestNap = 20;
    private readonly FutexLock _lock = new();
    private long _freeAt;

    /// <summary>
    /// Accounts for bytes copied and sleeps until they are within the rate, or until a token ends it. With nothing in hand that a guest may
    /// wait for.
    /// </summary>
    internal void Spend(long bytes, CancellationToken cancel)
    {
        long until = Account(bytes);
        while (!cancel.IsCancellationRequested && MillisecondsUntil(until) is > 0 and int left)
            Nap.Milliseconds(Math.Min(left, LongestNap));
    }

    /// <summary>Accounts for bytes copied.</summary>
    /// <returns>When they are within the rate, for <see cref="MillisecondsUntil"/>.</returns>
    internal long Account(long bytes)
    {
        if (bytesPerSecond <= 0)
            return 0;
        using (_lock.Enter())
        {
            _freeAt = Math.Max(_freeAt, Stopwatch.GetTimestamp()) + (long)((double)bytes / bytesPerSecond * Stopwatch.Frequency);
            return _freeAt;
        }
    }

    /// <summary>How long it is until then, rounded up; 0 when it is over.</summary>
    internal static int MillisecondsUntil(long until)
    {
        if (until == 0)
            return 0;
        long left = until - Stopwatch.GetTimestamp();
        return left <= 0 ? 0 : (int)Math.Min(int.MaxValue, left * 1000 / Stopwatch.Frequency + 1);
    }
}
