using System.Collections.Concurrent;
using RealThread = System.Threading.Thread;

namespace ModelCheck.Scheduling;

/// <summary>How a schedule ended.</summary>
/// <param name="Failure">What went wrong; null: nothing.</param>
/// <param name="Steps">Points at which another thread could have gone on.</param>
internal sealed record Outcome(string? Failure, int Steps);

/// <summary>
/// Runs threads one at a time, and decides at every point of theirs which goes on: the order of everything is a function of the choices.
/// </summary>
/// <remarks>
/// A thread has a point before and after every access to what it shares (<c>Primitives</c>). Time is a number that moves when nobody can go
/// on, up to the next time-out, and once in a while by the strategy's wish: a machine may be as slow as it likes. Memory is sequentially
/// consistent here: what a processor or compiler may reorder is not tried.
/// </remarks>
internal sealed class Scheduler
{
    // Threads of a schedule that failed are left where they stand; a test ends soon after one.
    [ThreadStatic]
    private static Model? t_current;

    private readonly List<Model> _threads = [];
    private readonly IStrategy _strategy;
    private readonly int _mostSteps;
    private readonly SemaphoreSlim _ended = new(0);
    private readonly List<int> _candidates = [];
    private int _current;
    private int _steps;
    private string? _failure;

    private Scheduler(IStrategy strategy, int mostSteps) => (_strategy, _mostSteps) = (strategy, mostSteps);

    /// <summary>A thread as the scheduler sees it.</summary>
    internal sealed class Model(Scheduler owner, string name)
    {
        internal readonly SemaphoreSlim Turn = new(0);
        internal readonly Scheduler Owner = owner;
        internal readonly string Name = name;
        internal Func<bool>? Awaits;
        internal long Deadline = long.MaxValue;
        internal bool TimedOut;
        internal bool HasEnded;
    }

    /// <summary>Microseconds since the schedule began; 0 outside of one.</summary>
    internal static long Now { get; private set; }

    /// <summary>Runs a body, and the threads that it starts, to their ends.</summary>
    internal static Outcome Run(Action body, IStrategy strategy, int mostSteps)
    {
        Scheduler scheduler = new(strategy, mostSteps);
        Now = 1;
        Bgsnap.Linux.Libc.Reset();
        scheduler.Add("main", body);
        scheduler._threads[0].Turn.Release();
        scheduler._ended.Wait();
        return new Outcome(scheduler._failure, scheduler._steps);
    }

    /// <summary>Starts a thread in the schedule of the caller's.</summary>
    internal static Model Start(string name, Action body)
    {
        Model caller = t_current ?? throw new InvalidOperationException("no schedule is running here");
        Model started = caller.Owner.Add(name, body);
        caller.Owner.Yield(caller);
        return started;
    }

    /// <summary>Another thread may go on here.</summary>
    internal static void Point()
    {
        if (t_current is { } current)
            current.Owner.Yield(current);
    }

    /// <summary>Waits until a condition holds, which others bring about between their points.</summary>
    /// <param name="holds">The condition.</param>
    /// <param name="microseconds">Longest time; <see cref="long.MaxValue"/>: for ever.</param>
    /// <returns>False when the time was over.</returns>
    internal static bool Await(Func<bool> holds, long microseconds = long.MaxValue)
    {
        Model current = t_current ?? throw new InvalidOperationException("nobody would end the wait");
        (current.Awaits, current.TimedOut) = (holds, false);
        current.Deadline = microseconds > long.MaxValue - Now ? long.MaxValue : Now + Math.Max(microseconds, 1);
        current.Owner.Yield(current);
        (current.Awaits, current.Deadline) = (null, long.MaxValue);
        return !current.TimedOut;
    }

    private Model Add(string name, Action body)
    {
        Model model = new(this, name);
        _threads.Add(model);
        Worker.Run(() =>
        {
            model.Turn.Wait();
            t_current = model;
            try
            {
                body();
            }
            catch (Exception e)
            {
                _failure ??= $"thread {name}: {e}";
            }
            t_current = null;
            model.HasEnded = true;
            GoOn(null);
        });
        return model;
    }

    private void Yield(Model current)
    {
        if (++_steps > _mostSteps)
            _failure ??=
                $"more than {_mostSteps} steps: {string.Join(", ", _threads.Where(t => !t.HasEnded).Select(t => t.Name))} go on and on";
        GoOn(current);
    }

    private void GoOn(Model? current)
    {
        if (_failure is not null || _threads.TrueForAll(t => t.HasEnded))
        {
            _ended.Release();
            if (current is not null)
                Park();
            return;
        }
        if (Choose() is not { } next)
        {
            _failure = $"nobody can go on: {string.Join(", ", _threads.Where(t => !t.HasEnded).Select(t => t.Name))} wait for ever";
            _ended.Release();
            if (current is not null)
                Park();
            return;
        }
        if (next == current)
            return;
        next.Turn.Release();
        current?.Turn.Wait();
    }

    private static void Park() => RealThread.Sleep(Timeout.Infinite);

    /// <summary>A thread of the runtime that runs one model after another: making one for each would take longer than a schedule.</summary>
    private sealed class Worker
    {
        private static readonly ConcurrentBag<Worker> Idle = [];
        private readonly SemaphoreSlim _given = new(0);
        private Action _job = () => { };

        internal static void Run(Action job)
        {
            if (!Idle.TryTake(out Worker? worker))
            {
                worker = new Worker();
                new RealThread(worker.Loop, 256 * 1024) { IsBackground = true, Name = "model" }.Start();
            }
            worker._job = job;
            worker._given.Release();
        }

        private void Loop()
        {
            while (true)
            {
                _given.Wait();
                _job();
                Idle.Add(this);
            }
        }
    }

    private Model? Choose()
    {
        _candidates.Clear();
        int early = -1;
        for (int i = 0; i < _threads.Count; i++)
        {
            Model t = _threads[i];
            if (t.HasEnded)
                continue;
            if (t.Awaits is null || t.Awaits())
                _candidates.Add(i);
            else if (t.Deadline != long.MaxValue && (early < 0 || t.Deadline < _threads[early].Deadline))
                early = i;
        }
        // Nobody can: then time passes. Or it passes although somebody could, on a slow machine.
        if (early >= 0 && (_candidates.Count == 0 || _strategy.PassTime()))
        {
            Now = Math.Max(Now, _threads[early].Deadline);
            _threads[early].TimedOut = true;
            return _threads[_current = early];
        }
        if (_candidates.Count == 0)
            return null;
        _current = _strategy.Choose(_candidates, _current);
        Now++;
        return _threads[_current];
    }
}
