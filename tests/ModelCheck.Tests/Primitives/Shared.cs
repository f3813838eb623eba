using ModelCheck.Scheduling;

// In this namespace, which encloses those of the checked classes, these names hide the runtime's own.
namespace Bgsnap;

/// <summary>Reads and writes of what threads share, each with a point before and after.</summary>
internal static class Volatile
{
    internal static T Read<T>(ref T location)
    {
        Scheduler.Point();
        T value = location;
        Scheduler.Point();
        return value;
    }

    internal static void Write<T>(ref T location, T value)
    {
        Scheduler.Point();
        location = value;
        Scheduler.Point();
    }
}

/// <summary>The same for what is read and written in one step.</summary>
internal static class Interlocked
{
    internal static T Exchange<T>(ref T location, T value)
    {
        Scheduler.Point();
        T was = location;
        location = value;
        Scheduler.Point();
        return was;
    }

    internal static T CompareExchange<T>(ref T location, T value, T comparand)
    {
        Scheduler.Point();
        T was = location;
        if (EqualityComparer<T>.Default.Equals(was, comparand))
            location = value;
        Scheduler.Point();
        return was;
    }

    internal static long Add(ref long location, long value)
    {
        Scheduler.Point();
        long now = location += value;
        Scheduler.Point();
        return now;
    }

    internal static int Increment(ref int location)
    {
        Scheduler.Point();
        int now = ++location;
        Scheduler.Point();
        return now;
    }

    internal static long Increment(ref long location) => Add(ref location, 1);
}

/// <summary>A thread of the schedule.</summary>
internal sealed class Thread(ThreadStart body, int stackSize)
{
    private Scheduler.Model? _model;

    internal bool IsBackground { get; init; }

    internal string? Name { get; init; }

    internal int StackSize { get; } = stackSize;

    internal void Start() => _model = Scheduler.Start(Name ?? "thread", () => body());

    internal void Join() => Scheduler.Await(() => _model!.HasEnded);

    internal static void Sleep(int milliseconds) => Scheduler.Await(() => false, milliseconds * 1000L);
}

/// <summary>The schedule's time.</summary>
internal static class Stopwatch
{
    internal const long Frequency = 1_000_000;

    internal static long GetTimestamp() => Scheduler.Now;

    internal static TimeSpan GetElapsedTime(long since) => TimeSpan.FromMicroseconds(Scheduler.Now - since);
}
