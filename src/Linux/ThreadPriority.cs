namespace Bgsnap.Linux;

/// <summary>Scheduling of the calling thread: sched_setscheduler(2), setpriority(2).</summary>
internal static unsafe class ThreadPriority
{
    private const long SysSchedSetScheduler = 144,
        SysSetPriority = 141;
    private const int SCHED_FIFO = 1;

    /// <summary>
    /// Schedules the thread before ordinary ones (1 to 99, SCHED_FIFO), or after them (-1 to -19, nice values 1 to 19). Without the
    /// privilege nothing changes: it affects speed, not correctness.
    /// </summary>
    internal static void Raise(int priority)
    {
        if (priority > 0)
        {
            int parameter = priority;
            _ = Libc.Syscall(SysSchedSetScheduler, 0, SCHED_FIFO, (long)&parameter, 0, 0, 0);
        }
        else if (priority < 0)
        {
            _ = Libc.Syscall(SysSetPriority, 0, 0, -priority, 0, 0, 0);
        }
    }
}
