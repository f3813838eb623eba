using Bgsnap.Engine.Capture;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>Other clients' jobs on the machine's disks.</summary>
internal static class BlockJobs
{
    /// <summary>
    /// Refuses while a block job runs: both would copy the disk before the guest's writes, each below or above the other.
    /// </summary>
    /// <exception cref="RefusedException">A block job is running.</exception>
    internal static void RefuseBusy(IQmpMonitor qmp, IReadOnlyList<VmDisk> disks)
    {
        if (Foreign(qmp) is [var job, ..])
        {
            string disk = DiskOf(NodeGraph.Read(qmp), job.Id, disks.Select(d => (d.Name, d.NodeName)));
            throw new RefusedException(
                Reasons.BlockJobActive,
                $"QEMU runs a block job on {disk} of this VM (job {job.Id}, {job.Type}): try again when the job has ended, or capture with "
                    + "--disks none"
            );
        }
    }

    /// <summary>Other clients' block-layer jobs that have not ended.</summary>
    internal static IReadOnlyList<(string Id, string Type)> Foreign(IQmpMonitor qmp)
    {
        using QmpAnswer jobs = qmp.Execute("query-jobs");
        List<(string, string)> found = [];
        foreach (QmpValue job in jobs.Return.EnumerateArray())
        {
            (string id, string type, string status) = (
                job.GetProperty("id").GetString(),
                job.GetProperty("type").GetString(),
                job.GetProperty("status").GetString()
            );
            // A new image that is being created (blockdev-create) is not a disk of the machine yet; a "concluded" job has ended and waits
            // to be dismissed.
            if (!AgentNames.IsOurs(id) && type is not "create" && status is not ("concluded" or "null" or "undefined"))
                found.Add((id, type));
        }
        return found;
    }

    /// <summary>The failure for another client's job that began during a capture.</summary>
    internal static CaptureFailedException Began((string Id, string Type) job, string disk) =>
        new(
            Reasons.BlockJobActive,
            $"somebody else started a block job on {disk} during the capture (job {job.Id}, {job.Type}): the capture gave way, and the job "
                + "and the guest run on. "
                + "Try again when the job has ended"
        );

    /// <summary>The disk that a job works on, in words.</summary>
    internal static string DiskOf(NodeGraph graph, string job, IEnumerable<(string Name, string Node)> disks)
    {
        string[] names = [.. disks.Where(d => graph.Reaches(job, d.Node)).Select(d => d.Name)];
        return names.Length == 0 ? "a disk" : $"disk {string.Join(", ", names)}";
    }
}
