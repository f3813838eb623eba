using Bgsnap.NodeAgent.Capture;
using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Disks.Graph;

/// <summary>
/// Looks whether others work on the disks of a capture: right after the cut, while it copies, and before the snapshot is kept. Neither
/// their work nor ours is harmed by the other (<see cref="DiskNodes"/>); but a snapshot beside which something else went on is not kept,
/// and the capture leaves the disks to the other.
/// </summary>
internal sealed class DiskWatch(IQmpMonitor qmp, IReadOnlyList<CapturedDisk> disks, IDiskMethod method)
{
    private const long Interval = 500;
    private long _next;

    /// <summary>Looks, at most twice a second.</summary>
    /// <exception cref="CaptureFailedException">Somebody works on a disk, or has changed what belongs to it.</exception>
    internal void LookNowAndThen()
    {
        if (Environment.TickCount64 < _next)
            return;
        Look();
        _next = Environment.TickCount64 + Interval;
    }

    /// <inheritdoc cref="LookNowAndThen"/>
    internal void Look()
    {
        NodeGraph graph = NodeGraph.Read(qmp);
        if (BlockJobs.Foreign(qmp) is [var job, ..])
            throw BlockJobs.Began(job, BlockJobs.DiskOf(graph, job.Id, disks.Select(d => (d.Disk.Name, d.Disk.NodeName))));
        foreach (CapturedDisk d in disks)
        {
            if (method.WhatChanged(d, graph) is { } change)
                throw Changed(d.Disk.Name, change);
        }
    }

    /// <summary>A disk that is not what it was.</summary>
    internal static CaptureFailedException Changed(string disk, string how) =>
        new(
            "MachineChanged",
            $"disk {disk} was changed during the capture: {how}. The change and the guest are not touched, no snapshot was kept; try again"
        );
}
