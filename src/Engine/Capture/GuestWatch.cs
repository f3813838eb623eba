using System.Diagnostics;
using Bgsnap.Linux;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// Kills this process if a thread that a vCPU may wait for makes no progress: the only userfaultfd closes with the process, and the guest
/// runs.
/// </summary>
/// <remarks>
/// <code>
///   fault thread      one heartbeat for as long as it runs
///   each sweeper      one from its claim of a granule until it has released it
///   stop window       one from the stop until the guest runs, when a longest downtime was asked for
///   this watch        all of them fresh? then the kernel's timer is set to (oldest heartbeat + limit)
///   kernel            the timer runs out: SIGKILL
/// </code>
/// The watch can only postpone the kill. If the watch itself stands still because everything does (SIGSTOP of the agent and its parent, a
/// debugger, a frozen cgroup), no thread resets the timer.
/// </remarks>
internal sealed class GuestWatch : IDisposable
{
    private const int MostBeats = 64,
        RoundMilliseconds = 50,
        Priority = 30;

    /// <summary>How long a thread may stand still if no longest downtime was requested.</summary>
    internal static readonly TimeSpan Default = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan Longest = TimeSpan.FromSeconds(2),
        AfterDowntime = TimeSpan.FromSeconds(1);

    private readonly Heartbeat[] _beats = new Heartbeat[MostBeats];
    private readonly Lock _lock = new();
    private readonly DeathTimer? _timer;
    private readonly long _limit;
    private int _count;
    private bool _ended;
    private volatile bool _released;

    private GuestWatch(DeathTimer? timer, TimeSpan limit)
    {
        (_timer, _limit) = (timer, (long)limit.TotalNanoseconds);
        if (timer is null)
            return;
        SetTimer();
        // If the watch fails, it no longer resets the timer. The timer then kills the process, and the guest is free.
        _ = AgentThread.Start("guest watch", Run, failed: _ => { });
    }

    /// <summary>Starts the watch. From here on the kernel kills the process if it stands still.</summary>
    /// <param name="maxDowntime">The requested longest downtime; zero: no limit.</param>
    internal static GuestWatch Begin(TimeSpan maxDowntime) => new(DeathTimer.Create(), LimitFor(maxDowntime));

    /// <summary>Creates a watch that watches nothing, for tests of single threads.</summary>
    internal static GuestWatch Nothing() => new(null, Default);

    /// <summary>
    /// How long a thread that a vCPU waits for may stand still: the guest is free within the longest downtime plus one second.
    /// </summary>
    internal static TimeSpan LimitFor(TimeSpan maxDowntime) =>
        maxDowntime <= TimeSpan.Zero ? Default
        : maxDowntime + AfterDowntime < Longest ? maxDowntime + AfterDowntime
        : Longest;

    /// <summary>Adds a heartbeat for a thread, initially at rest.</summary>
    internal Heartbeat Add() => Add(_limit, forPages: true);

    /// <summary>
    /// Adds the heartbeat of the stop window: it may take the requested downtime plus one second to recover; null: no limit.
    /// </summary>
    internal Heartbeat? AddWindow(TimeSpan maxDowntime) =>
        maxDowntime > TimeSpan.Zero ? Add((long)(maxDowntime + AfterDowntime).TotalNanoseconds, forPages: false) : null;

    /// <summary>No page is protected any more: the threads that served pages may take their time. The stop window may not.</summary>
    internal void NothingIsProtected() => _released = true;

    private Heartbeat Add(long limit, bool forPages)
    {
        lock (_lock)
        {
            Heartbeat beat = new(limit, forPages);
            _beats[_count] = beat;
            Volatile.Write(ref _count, _count + 1);
            return beat;
        }
    }

    private void Run()
    {
        Linux.ThreadPriority.Raise(Priority);
        for (; SetTimer(); Thread.Sleep(RoundMilliseconds)) { }
    }

    private bool SetTimer()
    {
        long now = Now(),
            until = now + _limit;
        for (int i = 0; i < Volatile.Read(ref _count); i++)
        {
            if (_beats[i].Until is > 0 and long ends && ends < until && !(_released && _beats[i].ForPages))
                until = ends;
        }
        lock (_lock)
        {
            if (!_ended)
                _timer!.DieAt(until);
            return !_ended;
        }
    }

    // Nanoseconds of CLOCK_MONOTONIC.
    private static long Now() => Stopwatch.GetTimestamp();

    /// <summary>Stops the watch, because the guest no longer depends on the agent.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            if (!_ended)
                _timer?.Dispose();
            _ended = true;
        }
    }

    /// <summary>Heartbeat of one thread. Touching it costs one clock read.</summary>
    internal sealed class Heartbeat(long limit, bool forPages)
    {
        private long _until;

        /// <summary>Whether this heartbeat belongs to a thread that serves pages.</summary>
        internal bool ForPages => forPages;

        /// <summary>Deadline in nanoseconds of CLOCK_MONOTONIC; 0: no vCPU waits for the thread.</summary>
        internal long Until => Volatile.Read(ref _until);

        /// <summary>Records that the thread is alive and that a vCPU may wait for it from now on.</summary>
        internal void Touch() => Volatile.Write(ref _until, Now() + limit);

        /// <summary>Records that no vCPU waits for the thread any more.</summary>
        internal void Rest() => Volatile.Write(ref _until, 0);
    }
}
