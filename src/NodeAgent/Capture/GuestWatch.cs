using System.Diagnostics;
using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// Ends this process when a thread that a vCPU may wait for does not come round: with the process goes the only userfaultfd, and the guest
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
/// The watch can only put death off. If it stands still itself, because everything does (SIGSTOP of us and our parent, a debugger, a frozen
/// cgroup), nobody sets the timer again.
/// </remarks>
internal sealed class GuestWatch : IDisposable
{
    private const int MostBeats = 64,
        RoundMilliseconds = 50,
        Priority = 30;

    /// <summary>How long a thread may take where no longest downtime was asked for.</summary>
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
        // A watch that fails sets the timer no more, which then ends the process: the guest is free.
        _ = AgentThread.Start("guest watch", Run, failed: _ => { });
    }

    /// <summary>Begins. From here on the process dies when it stands still.</summary>
    /// <param name="maxDowntime">The longest downtime that was asked for; zero: none.</param>
    internal static GuestWatch Begin(TimeSpan maxDowntime) => new(DeathTimer.Create(), LimitFor(maxDowntime));

    /// <summary>One that watches nothing, for tests of single threads.</summary>
    internal static GuestWatch Nothing() => new(null, Default);

    /// <summary>
    /// How long a thread that a vCPU waits for may stand still: the guest is free within the longest downtime and a second.
    /// </summary>
    internal static TimeSpan LimitFor(TimeSpan maxDowntime) =>
        maxDowntime <= TimeSpan.Zero ? Default
        : maxDowntime + AfterDowntime < Longest ? maxDowntime + AfterDowntime
        : Longest;

    /// <summary>A heartbeat for a thread; it is at rest.</summary>
    internal Heartbeat Add() => Add(_limit, forPages: true);

    /// <summary>
    /// The one for the stop window: it may take as long as was asked for, and a second for the way back; null: as long as it likes.
    /// </summary>
    internal Heartbeat? AddWindow(TimeSpan maxDowntime) =>
        maxDowntime > TimeSpan.Zero ? Add((long)(maxDowntime + AfterDowntime).TotalNanoseconds, forPages: false) : null;

    /// <summary>No page is protected any more: the threads that served them may take their time. The stop window may not.</summary>
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

    /// <summary>The guest depends on us no more.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            if (!_ended)
                _timer?.Dispose();
            _ended = true;
        }
    }

    /// <summary>Sign of life of one thread. Touching it costs a read of the clock.</summary>
    internal sealed class Heartbeat(long limit, bool forPages)
    {
        private long _until;

        /// <summary>It is a sign of somebody who serves pages.</summary>
        internal bool ForPages => forPages;

        /// <summary>When it is too late, in nanoseconds of CLOCK_MONOTONIC; 0: nobody waits for the thread.</summary>
        internal long Until => Volatile.Read(ref _until);

        /// <summary>The thread is alive, and a vCPU may wait for it from now on.</summary>
        internal void Touch() => Volatile.Write(ref _until, Now() + limit);

        /// <summary>Nobody waits for the thread any more.</summary>
        internal void Rest() => Volatile.Write(ref _until, 0);
    }
}
