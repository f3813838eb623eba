using Bgsnap.Engine.Capture;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>
/// Checks whether other clients work on the disks of a capture: right after the cut, during the copy, and before the snapshot is kept.
/// Neither their work nor the capture harms the other (<see cref="DiskNodes"/>). But a snapshot is not kept if something else worked on its
/// disks meanwhile: the capture leaves the disks to the other client.
/// </summary>
internal sealed class DiskWatch(IQmpMonitor qmp, IReadOnlyList<CapturedDisk> disks, IDiskMethod method)
{
    private const long Interval = 500;
    private long _next;

    /// <summary>Checks, at most twice a second.</summary>
    /// <exception cref="CaptureFailedException">Another client works on a disk, or has changed what belongs to it.</exception>
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

    /// <summary>The failure for a disk that has changed.</summary>
    internal static CaptureFailedException Changed(string disk, string how) =>
        new(
            Reasons.MachineChanged,
            $"disk {disk} was changed during the capture: {how}. The change stays, the guest runs on, and no snapshot was kept; try again"
        );
}
