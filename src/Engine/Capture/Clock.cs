using Bgsnap.Linux;

namespace Bgsnap.Engine.Capture;

/// <summary>The host's wall clock in the unit of QEMU's events.</summary>
internal static class Clock
{
    /// <summary>Microseconds since 1970, UTC.</summary>
    internal static long NowMicroseconds() => (DateTime.UtcNow - DateTime.UnixEpoch).Ticks / 10 + TestHooks.ClockAhead;

    internal static DateTimeOffset FromMicroseconds(long microseconds) => DateTimeOffset.UnixEpoch.AddTicks(microseconds * 10);
}
