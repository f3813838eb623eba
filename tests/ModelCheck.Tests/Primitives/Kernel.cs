using System.Runtime.InteropServices;
using ModelCheck.Scheduling;

namespace Bgsnap.Linux;

/// <summary>The system calls that the checked classes make: futex(2) and nanosleep(2).</summary>
internal static unsafe class Libc
{
    private const long Nanosleep = 35,
        Futex = 202;
    private const int Wait = 0,
        Command = 127;
    private static readonly List<Waiter> Waiters = [];

    /// <summary>Forgets the waiters of a schedule that was given up.</summary>
    internal static void Reset() => Waiters.Clear();

    private sealed class Waiter(long word)
    {
        internal readonly long Word = word;
        internal bool IsWoken;
    }

    internal static long Syscall(long number, long a, long b, long c, long d, long e, long f) =>
        number switch
        {
            Nanosleep => Sleep((long*)a),
            Futex when (b & Command) == Wait => WaitFor((int*)a, (int)c, (long*)d),
            Futex => Wake(a, (int)c),
            _ => throw new NotSupportedException($"system call {number}"),
        };

    private static long Sleep(long* time)
    {
        Scheduler.Await(() => false, Microseconds(time));
        return 0;
    }

    private static long WaitFor(int* word, int expected, long* time)
    {
        Scheduler.Point();
        if (*word != expected)
            return -1;
        Waiter waiter = new((long)word);
        Waiters.Add(waiter);
        bool woken = Scheduler.Await(() => waiter.IsWoken, time is null ? long.MaxValue : Microseconds(time));
        Waiters.Remove(waiter);
        return woken ? 0 : -1;
    }

    private static long Wake(long word, int most)
    {
        Scheduler.Point();
        long woken = 0;
        foreach (Waiter waiter in Waiters)
        {
            if (waiter.Word != word || waiter.IsWoken || woken == most)
                continue;
            waiter.IsWoken = true;
            woken++;
        }
        Scheduler.Point();
        return woken;
    }

    private static long Microseconds(long* time) => (time[0] * 1_000_000) + (time[1] / 1000);
}

/// <summary>Memory for the bookkeeping, kept for the next schedule: bringing in pages would take longer than a schedule.</summary>
internal static unsafe class NativeMemoryMap
{
    private static readonly Dictionary<nuint, Stack<nint>> Kept = [];

    internal static byte* Allocate(nuint bytes)
    {
        lock (Kept)
        {
            if (!Kept.TryGetValue(bytes, out Stack<nint>? free) || !free.TryPop(out nint kept))
                kept = (nint)NativeMemory.AlignedAlloc(bytes, 4096);
            // What is large is room for copies, which nobody takes for zeroes.
            if (bytes <= 1 << 20)
                new Span<byte>((void*)kept, (int)bytes).Clear();
            return (byte*)kept;
        }
    }

    internal static byte* Reserve(nuint bytes) => Allocate(bytes);

    internal static void Populate(byte* start, nuint bytes) { }

    internal static void Free(byte* p, nuint bytes)
    {
        lock (Kept)
        {
            if (!Kept.TryGetValue(bytes, out Stack<nint>? free))
                Kept[bytes] = free = [];
            free.Push((nint)p);
        }
    }
}

/// <summary>Nobody has priority but by the scheduler.</summary>
internal static class ThreadPriority
{
    internal static void Raise(int priority) { }
}
