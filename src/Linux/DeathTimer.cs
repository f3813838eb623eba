using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Bgsnap.Linux;

/// <summary>
/// A kernel timer that kills this process when it expires: timer_create(2) with SIGKILL. It needs no thread of ours. It also kills a
/// process that is stopped (SIGSTOP, a debugger), and one in a frozen cgroup of version 2; in a frozen cgroup of version 1 the signal waits
/// for the thaw.
/// </summary>
/// <remarks>Any thread may call timer_settime(2), which allocates nothing.</remarks>
internal sealed unsafe class DeathTimer : IDisposable
{
    private const long SysTimerCreate = 222,
        SysTimerSetTime = 223,
        SysTimerDelete = 226;
    private const int CLOCK_MONOTONIC = 1,
        SIGEV_SIGNAL = 0,
        TIMER_ABSTIME = 1,
        SIGKILL = 9;
    private const long Second = 1_000_000_000;
    private readonly int _timer;

    private DeathTimer(int timer) => _timer = timer;

    /// <summary>Creates a timer that is not armed.</summary>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    internal static DeathTimer Create()
    {
        SignalEvent e = new() { Signal = SIGKILL, Notify = SIGEV_SIGNAL };
        int timer;
        return Libc.Syscall(SysTimerCreate, CLOCK_MONOTONIC, (long)&e, (long)&timer, 0, 0, 0) == 0
            ? new DeathTimer(timer)
            : throw LinuxException.Last("timer_create with SIGKILL");
    }

    /// <summary>
    /// The kernel kills the process at this time of CLOCK_MONOTONIC, in nanoseconds, unless the timer is set again before; 0 disarms it.
    /// </summary>
    internal void DieAt(long nanoseconds)
    {
        TimerSpec spec = new() { Seconds = nanoseconds / Second, Nanoseconds = nanoseconds % Second };
        if (Libc.Syscall(SysTimerSetTime, _timer, TIMER_ABSTIME, (long)&spec, 0, 0, 0) != 0)
            throw LinuxException.Last("timer_settime");
    }

    /// <summary>The kernel kills the process after this time.</summary>
    internal void DieIn(TimeSpan time) => DieAt(Stopwatch.GetTimestamp() + (long)time.TotalNanoseconds);

    /// <inheritdoc/>
    public void Dispose() => _ = Libc.Syscall(SysTimerDelete, _timer, 0, 0, 0, 0, 0);

    /// <summary>struct sigevent (include/uapi/asm-generic/siginfo.h).</summary>
    [StructLayout(LayoutKind.Sequential, Size = 64)]
    internal struct SignalEvent
    {
        internal long Value;
        internal int Signal;
        internal int Notify;
    }

    /// <summary>struct itimerspec: no interval, one expiry.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct TimerSpec
    {
        internal long IntervalSeconds,
            IntervalNanoseconds,
            Seconds,
            Nanoseconds;
    }
}
