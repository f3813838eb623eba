using System.Runtime.InteropServices;

namespace Bgsnap.Linux;

/// <summary>A mutex that allocates nothing, even under contention: futex(2). Hold it for a few instructions only; not recursive.</summary>
/// <remarks>
/// <see cref="Lock"/> allocates its wait event on the managed heap when two threads first contend, in one capture of many, and a garbage
/// collection that follows would stop every thread that copies.
/// </remarks>
internal sealed unsafe class FutexLock
{
    private const long SysFutex = 202;
    private const int WaitPrivate = 0 | 128,
        WakePrivate = 1 | 128;
    private const int Free = 0,
        Held = 1,
        Contended = 2;
    private readonly int* _word = (int*)NativeMemory.AllocZeroed(sizeof(int));

    ~FutexLock() => NativeMemory.Free(_word);

    /// <summary>Takes the lock until the scope is disposed.</summary>
    internal Scope Enter()
    {
        if (Interlocked.CompareExchange(ref *_word, Held, Free) != Free)
        {
            while (Interlocked.Exchange(ref *_word, Contended) != Free)
                _ = Libc.Syscall(SysFutex, (long)_word, WaitPrivate, Contended, 0, 0, 0);
        }
        return new Scope(this);
    }

    private void Exit()
    {
        if (Interlocked.Exchange(ref *_word, Free) == Contended)
            _ = Libc.Syscall(SysFutex, (long)_word, WakePrivate, 1, 0, 0, 0);
        GC.KeepAlive(this);
    }

    /// <summary>Holds the lock; disposal releases it.</summary>
    internal readonly ref struct Scope(FutexLock held)
    {
        public void Dispose() => held.Exit();
    }
}
