namespace Bgsnap.Linux;

/// <summary>
/// Sleeps without the runtime's wait objects, some of which are allocated on the managed heap when a thread first needs them: nanosleep(2).
/// </summary>
internal static unsafe class Nap
{
    private const long SysNanosleep = 35;

    internal static void Milliseconds(int milliseconds) => Microseconds(milliseconds * 1000L);

    internal static void Microseconds(long microseconds)
    {
        long* time = stackalloc long[2];
        time[0] = microseconds / 1_000_000;
        time[1] = microseconds % 1_000_000 * 1000;
        _ = Libc.Syscall(SysNanosleep, (long)time, 0, 0, 0, 0, 0);
    }
}
