using System.Diagnostics;
using Bgsnap.Linux;

namespace Bgsnap.Engine.Capture;

/// <summary>Limits the combined rate at which RAM and disks are copied. Work that a guest waits for is never delayed.</summary>
internal sealed class BandwidthLimit(long bytesPerSecond)
{
    private const int LongestNap = 20;
    private readonly FutexLock _lock = new();
    private long _freeAt;

    /// <summary>
    /// Accounts for copied bytes and sleeps until they are within the rate, or until the token is cancelled. The caller must hold nothing
    /// that a guest may wait for.
    /// </summary>
    internal void Spend(long bytes, CancellationToken cancel)
    {
        long until = Account(bytes);
        while (!cancel.IsCancellationRequested && MillisecondsUntil(until) is > 0 and int left)
            Nap.Milliseconds(Math.Min(left, LongestNap));
    }

    /// <summary>Accounts for bytes copied.</summary>
    /// <returns>When the bytes are within the rate, for <see cref="MillisecondsUntil"/>.</returns>
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

    /// <summary>Milliseconds until that time, rounded up; 0 if it has passed.</summary>
    internal static int MillisecondsUntil(long until)
    {
        if (until == 0)
            return 0;
        long left = until - Stopwatch.GetTimestamp();
        return left <= 0 ? 0 : (int)Math.Min(int.MaxValue, left * 1000 / Stopwatch.Frequency + 1);
    }
}
