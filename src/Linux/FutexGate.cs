using System.Runtime.InteropServices;

namespace Bgsnap.Linux;

/// <summary>Lets threads wait until something may have changed: futex(2). Allocates nothing; spurious wakes are allowed.</summary>
internal sealed unsafe class FutexGate
{
    private const long SysFutex = 202;
    private const int WaitPrivate = 0 | 128,
        WakePrivate = 1 | 128;
    private readonly int* _word = (int*)NativeMemory.AllocZeroed(sizeof(int));

    ~FutexGate() => NativeMemory.Free(_word);

    /// <summary>Wakes every waiter.</summary>
    internal void Open()
    {
        Interlocked.Increment(ref *_word);
        _ = Libc.Syscall(SysFutex, (long)_word, WakePrivate, int.MaxValue, 0, 0, 0);
    }

    /// <summary>The state to pass to <see cref="Wait(int, int)"/>: read it before checking the condition.</summary>
    internal int Sample() => Volatile.Read(ref *_word);

    /// <summary>Waits until the gate has been opened after <paramref name="sample"/> was taken.</summary>
    internal void Wait(int sample, int milliseconds)
    {
        long* time = stackalloc long[2];
        time[0] = milliseconds / 1000;
        time[1] = milliseconds % 1000 * 1_000_000L;
        _ = Libc.Syscall(SysFutex, (long)_word, WaitPrivate, sample, (long)time, 0, 0);
        GC.KeepAlive(this);
    }

    /// <summary>Waits for the next opening, or until the timeout.</summary>
    internal void Wait(int milliseconds) => Wait(Sample(), milliseconds);
}
