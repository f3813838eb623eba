using System.Text.Json;
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
    /// <summary>The balloon's size in MiB at the start, -1 when there is none.</summary>
    internal static int Begin(IQmpMonitor qmp) => Actual(qmp);

    /// <summary>Waits a while, and ends the capture when an event says that it cannot be true any more.</summary>
    internal static void Check(IQmpMonitor qmp, MigrationWatch migration, IReadOnlyList<RamBlock> blocks, CapturePipeline pipeline, TimeSpan slice)
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
    /// Asks QEMU once more, when everything has been copied and discards are still listened to. QEMU answers on the thread on which, or under the
    /// lock under which, it discards: what it had begun before has been announced when the answer is here.
    /// </summary>
    internal static void End(IQmpMonitor qmp, int before, IReadOnlyList<RamBlock> blocks, CapturePipeline pipeline)
    {
        if (pipeline.IsCancelled)
            return;
        int now = Actual(qmp);
        if (now != before && blocks.Any(b => b.IsHugetlb))
            pipeline.Fail(Moved($"went from {before} to {now} MiB"));
    }

    private static CaptureFailedException Moved(string how) =>
        new("MemoryDiscarded", $"the balloon {how} during the capture, and the guest's memory is hugetlbfs: what it took may not have been copied yet. Try again when the balloon is at rest");

    private static int Actual(IQmpMonitor qmp)
    {
        try
        {
            using JsonDocument answer = qmp.Execute("query-balloon");
            return (int)(answer.RootElement.GetProperty("return").GetProperty("actual").GetInt64() >> 20);
        }
        catch (QmpException e) when (e.ErrorClass is not null)
        {
            return -1;
        }
    }
}
