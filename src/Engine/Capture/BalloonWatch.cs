using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// Watches for events that take memory away behind the protection, and for the end of QEMU. QEMU punches holes into hugetlbfs with
/// fallocate(2) alone, which no userfaultfd announces.
/// </summary>
internal static unsafe class BalloonWatch
{
    /// <summary>
    /// How long QEMU may hold back a BALLOON_CHANGE that follows another (monitor/monitor.c), plus a little for delivery.
    /// </summary>
    private const int HeldBackMilliseconds = 1200;

    /// <summary>The guest's memory outside the balloon at the start, in bytes; -1 without a balloon.</summary>
    internal static long Begin(IQmpMonitor qmp) => Actual(qmp);

    /// <summary>Waits a while, and ends the capture if an event shows that it can no longer be correct.</summary>
    internal static void Check(
        IQmpMonitor qmp,
        MigrationWatch migration,
        IReadOnlyList<RamBlock> blocks,
        CapturePipeline pipeline,
        TimeSpan slice
    )
    {
        PollFd p = new() { Fd = qmp.FileDescriptor, Events = Libc.POLLIN };
        _ = Libc.Poll(&p, 1, (int)slice.TotalMilliseconds);
        try
        {
            foreach (QmpEvent e in qmp.TakeEvents())
            {
                if (e.Name is "SHUTDOWN")
                    pipeline.Fail(new CaptureFailedException(Reasons.QemuGone, "the guest was shut down during the capture"));
                if (e.Name is "BALLOON_CHANGE" && blocks.Any(b => b.IsHugetlb))
                    pipeline.Fail(Moved("moved"));
                MigrationWatch.Note(e);
            }
            migration.Check();
        }
        catch (CaptureFailedException e)
        {
            pipeline.Fail(e);
        }
        catch (QmpException e)
        {
            pipeline.Fail(new CaptureFailedException(Reasons.QemuGone, $"QEMU ended during the capture: {e.Message}", e));
        }
    }

    /// <summary>
    /// Asks QEMU once more, after everything has been copied and while the agent still reads discards. QEMU answers on the thread that
    /// discards, or under the same lock: when the answer arrives, QEMU has announced every discard that it had begun.
    /// </summary>
    /// <returns>The time, by <see cref="Environment.TickCount64"/>, until which an event of an earlier balloon move may still come:
    /// <see cref="ListenUntil"/>.</returns>
    internal static long End(IQmpMonitor qmp, long before, IReadOnlyList<RamBlock> blocks, CapturePipeline pipeline)
    {
        if (pipeline.IsCancelled)
            return 0;
        long now = Actual(qmp);
        if (before == -1 || !blocks.Any(b => b.IsHugetlb))
            return 0;
        if (now != before)
            pipeline.Fail(Moved($"went from {before >> 20} to {now >> 20} MiB"));
        return Environment.TickCount64 + HeldBackMilliseconds;
    }

    /// <summary>
    /// Waits for late events: a balloon that grew and shrank again just before the end shows only in an event, which QEMU may hold back.
    /// </summary>
    internal static void ListenUntil(
        long end,
        IQmpMonitor qmp,
        MigrationWatch migration,
        IReadOnlyList<RamBlock> blocks,
        CapturePipeline pipeline,
        TimeSpan slice
    )
    {
        while (Environment.TickCount64 < end && !pipeline.IsCancelled)
            Check(qmp, migration, blocks, pipeline, slice);
    }

    private static CaptureFailedException Moved(string how) =>
        new(
            Reasons.MemoryDiscarded,
            $"the balloon {how} during the capture, and the guest's memory is hugetlbfs: the agent may not have copied what the balloon "
                + "took "
                + "yet. Try again when the balloon is at rest"
        );

    private static long Actual(IQmpMonitor qmp)
    {
        try
        {
            using QmpAnswer answer = qmp.Execute("query-balloon");
            return answer.Return.GetProperty("actual").GetInt64();
        }
        catch (QmpException e) when (e.ErrorClass is not null)
        {
            return -1;
        }
    }
}
