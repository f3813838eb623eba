using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Tests.Linux;

public sealed class FutexLockTests
{
    private const int Threads = 4, Rounds = 20_000;

    [Fact]
    public void Only_one_holds_it_and_meeting_allocates_nothing()
    {
        FutexLock held = new();
        // The first call of a function of libc binds it, which allocates.
        new FutexGate().Wait(1);
        int inside = 0, met = 0, sum = 0;
        long[] allocated = new long[Threads];
        Thread[] threads = [.. Enumerable.Range(0, Threads).Select(t => new Thread(() =>
        {
            long before = 0;
            for (int i = 0; i < Rounds; i++)
            {
                // The first round is the compiler's.
                if (i == Rounds / 2)
                    before = GC.GetAllocatedBytesForCurrentThread();
                using (held.Enter())
                {
                    if (Interlocked.Increment(ref inside) != 1)
                        Interlocked.Increment(ref met);
                    sum++;
                    // Long enough that the others have to wait.
                    Thread.SpinWait(20);
                    Interlocked.Decrement(ref inside);
                }
            }
            allocated[t] = GC.GetAllocatedBytesForCurrentThread() - before;
        }))];
        foreach (Thread t in threads)
            t.Start();
        foreach (Thread t in threads)
            t.Join();
        Assert.Equal((0, Threads * Rounds), (met, sum));
        Assert.All(allocated, a => Assert.Equal(0, a));
    }
}
