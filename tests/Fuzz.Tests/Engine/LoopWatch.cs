using System.Runtime.InteropServices;

namespace Bgsnap.Fuzz.Engine;

/// <summary>
/// Finds the input that a reader does not finish with: by the processor time that its thread has used for it, which a busy machine does not
/// add to, and by sleeping where nobody will wake it.
/// </summary>
internal sealed partial class LoopWatch : IDisposable
{
    // A hundred thousand times what an input takes.
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);
    private const int LookMilliseconds = 500,
        MostSleepingLooks = 600;

    private readonly Action<byte[], string> _found;
    private readonly int _clock;
    private readonly string _stat;
    private readonly Timer _timer;
    private byte[]? _input;
    private TimeSpan _began;
    private int _sleeping;

    /// <param name="found">Called on another thread with the input and why; the reading thread is still at it.</param>
    internal LoopWatch(Action<byte[], string> found)
    {
        _found = found;
        int thread = ThreadId();
        // CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED of the thread: make_thread_cpuclock() in the kernel's posix-timers.h.
        _clock = (~thread << 3) | 6;
        _stat = $"/proc/self/task/{thread}/stat";
        _timer = new Timer(_ => Look(), null, LookMilliseconds, LookMilliseconds);
    }

    [LibraryImport("libc", EntryPoint = "gettid")]
    private static partial int ThreadId();

    [LibraryImport("libc", EntryPoint = "clock_gettime")]
    private static unsafe partial int ClockGetTime(int clock, long* time);

    /// <summary>The thread begins with an input.</summary>
    internal void Begin(byte[] input) => Volatile.Write(ref _input, input);

    private void Look()
    {
        byte[]? input = Volatile.Read(ref _input);
        if (input is null || !ReferenceEquals(input, _last))
        {
            (_last, _began, _sleeping) = (input, Used(), 0);
            return;
        }
        _sleeping = File.ReadAllText(_stat).Split(") ", 2)[1][0] == 'S' ? _sleeping + 1 : 0;
        TimeSpan used = Used() - _began;
        if (used > Limit)
            Report(input, $"{used.TotalSeconds:0} s of processor time for {input.Length} bytes");
        else if (_sleeping > MostSleepingLooks)
            Report(input, $"asleep for {MostSleepingLooks * LookMilliseconds / 1000} s over {input.Length} bytes");
    }

    private byte[]? _last;

    private void Report(byte[] input, string why)
    {
        _sleeping = int.MinValue;
        _found(input, why);
    }

    private unsafe TimeSpan Used()
    {
        long* time = stackalloc long[2];
        // SAFETY: struct timespec, on our stack.
        return ClockGetTime(_clock, time) == 0 ? new TimeSpan((time[0] * TimeSpan.TicksPerSecond) + (time[1] / 100)) : TimeSpan.Zero;
    }

    /// <inheritdoc/>
    public void Dispose() => _timer.Dispose();
}
