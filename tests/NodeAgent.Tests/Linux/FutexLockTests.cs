using System.Runtime.CompilerServices;
using Bgsnap.Linux;

namespace Bgsnap.NodeAgent.Tests.Linux;

public sealed class FutexLockTests
{
    private const int Threads = 4,
        Rounds = 20_000;
    private readonly FutexLock _held = new();
    private int _inside,
        _met,
        _sum;

    [Fact]
    public void Only_one_holds_it_and_meeting_allocates_nothing()
    {
        // The first pass binds and compiles what the second one uses, and that allocates.
        Assert.Equal(Threads, Pass().Length);
        long[] allocated = Pass();

        Assert.Equal((0, 2 * Threads * Rounds), (_met, _sum));
        Assert.All(allocated, a => Assert.Equal(0, a));
    }

    private long[] Pass()
    {
        long[] allocated = new long[Threads];
        Thread[] threads = [.. Enumerable.Range(0, Threads).Select(t => new Thread(() => allocated[t] = Meet()))];
        foreach (Thread t in threads)
            t.Start();
        foreach (Thread t in threads)
            t.Join();
        return allocated;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)] // never compiled again while it runs
    private long Meet()
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < Rounds; i++)
        {
            using (_held.Enter())
            {
                if (Interlocked.Increment(ref _inside) != 1)
                    Interlocked.Increment(ref _met);
                _sum++;
                // Long enough that the others have to wait.
                Thread.SpinWait(20);
                Interlocked.Decrement(ref _inside);
            }
        }
        return GC.GetAllocatedBytesForCurrentThread() - before;
    }
}
