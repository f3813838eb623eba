using System.Text.Json;
using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Disks.Graph;

/// <summary>Work of others on the machine's disks.</summary>
internal static class BlockJobs
{
    /// <summary>Refuses while a block job runs: a filter put in beside it could end up in the wrong place when it completes.</summary>
    /// <exception cref="CaptureRefusedException">One runs.</exception>
    internal static void RefuseBusy(IQmpMonitor qmp)
    {
        using JsonDocument jobs = qmp.Execute("query-block-jobs");
        foreach (JsonElement job in jobs.RootElement.GetProperty("return").EnumerateArray())
        {
            throw new CaptureRefusedException("BlockJobActive",
                $"QEMU is at work on a disk of this VM (job {job.GetProperty("device").GetString()}, {job.GetProperty("type").GetString()}): try again when that has ended, or capture with --disks none");
        }
    }
}
