using System.Text.Json;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Vm;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// Watches for what would take memory away behind the protection: QEMU punches holes into shared memory files with fallocate(2), which no
/// userfaultfd announces. And for the end of QEMU.
/// </summary>
internal static unsafe class BalloonWatch
{
    /// <summary>The balloon's size in MiB at the start, -1 when there is none.</summary>
    internal static int Begin(IQmpMonitor qmp) => Actual(qmp);

    /// <summary>Waits a while, and ends the capture when an event says that it cannot be true any more.</summary>
    internal static void Check(IQmpMonitor qmp, MigrationWatch migration, CapturePipeline pipeline, TimeSpan slice)
    {
        PollFd p = new() { Fd = qmp.FileDescriptor, Events = Libc.POLLIN };
        _ = Libc.Poll(&p, 1, (int)slice.TotalMilliseconds);
        try
        {
            foreach (QmpEvent e in qmp.TakeEvents())
            {
                if (e.Name is "SHUTDOWN")
                    pipeline.Fail(new CaptureFailedException("QemuGone", "the guest was shut down during the capture"));
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

    internal static void End(IQmpMonitor qmp, int before, IReadOnlyList<RamBlock> blocks, CapturePipeline pipeline)
    {
        if (pipeline.IsCancelled || before < 0 || !blocks.Any(b => b.IsReadThroughFile))
            return;
        int now = Actual(qmp);
        if (now != before)
            pipeline.Fail(new CaptureFailedException("MemoryDiscarded", $"the balloon went from {before} to {now} MiB during the capture, and its memory is shared: what it took may not have been copied yet. Try again when the balloon is at rest"));
    }

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
