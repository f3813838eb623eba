using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Vm;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// Watches for what would take memory away behind the protection: QEMU punches holes into hugetlbfs with fallocate(2) alone, which no
/// userfaultfd announces. And for the end of QEMU.
/// </summary>
internal static unsafe class BalloonWatch
{
    /// <summary>
    /// For so long QEMU may keep a BALLOON_CHANGE back that follows another (monitor/monitor.c), and a little for its way to us.
    /// </summary>
    private const int HeldBackMilliseconds = 1200;

    /// <summary>The guest's memory beside the balloon at the start, in bytes; -1 when there is no balloon.</summary>
    internal static long Begin(IQmpMonitor qmp) => Actual(qmp);

    /// <summary>Waits a while, and ends the capture when an event says that it cannot be true any more.</summary>
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
                    pipeline.Fail(new CaptureFailedException("QemuGone", "the guest was shut down during the capture"));
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
            pipeline.Fail(new CaptureFailedException("QemuGone", $"QEMU ended during the capture: {e.Message}", e));
        }
    }

    /// <summary>
    /// Asks QEMU once more, when everything has been copied and discards are still listened to. QEMU answers on the thread on which, or
    /// under the lock under which, it discards: what it had begun before has been announced when the answer is here.
    /// </summary>
    /// <returns>Until when, by <see cref="Environment.TickCount64"/>, an event of a move before now may come:
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

    /// <summary>A balloon that grew and shrank again just before the end shows in an event alone, which QEMU may have kept back.</summary>
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
            "MemoryDiscarded",
            $"the balloon {how} during the capture, and the guest's memory is hugetlbfs: what it took may not have been copied "
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
