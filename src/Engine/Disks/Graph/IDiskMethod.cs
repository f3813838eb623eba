using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>A disk under capture and what belongs to it in QEMU.</summary>
/// <param name="Number">Its number in this capture; see <see cref="AgentNames"/>.</param>
/// <param name="Disk">The disk.</param>
internal sealed record CapturedDisk(int Number, VmDisk Disk);

/// <summary>
/// A method that keeps disks as they were at one instant while their guest continues to write. The thread that owns the monitor calls it in
/// this order: <see cref="Prepare"/>, <see cref="AddCut"/> while the guest is stopped, <see cref="Expose"/>, copying,
/// <see cref="TakeDown"/>.
/// </summary>
internal interface IDiskMethod
{
    /// <summary>The method's name in manifests and statuses.</summary>
    string Name { get; }

    /// <summary>Whether disks must be read cluster by cluster, because this QEMU answers longer requests wrongly.</summary>
    bool ReadSingleClusters { get; }

    /// <summary>Prepares everything that can be prepared while the guest runs.</summary>
    void Prepare();

    /// <summary>Adds the commands that fix the point in time; they run while the guest is stopped.</summary>
    void AddCut(QmpBatch batch);

    /// <summary>Creates a node that shows a disk as it was; called once for each disk, after the guest runs again.</summary>
    /// <returns>The node, and whether what has been read of it can be trimmed.</returns>
    (string Node, bool CanTrim) Expose(CapturedDisk disk);

    /// <summary>What other clients have done to a disk since the cut, as part of a sentence; null if nothing.</summary>
    string? WhatChanged(CapturedDisk disk, NodeGraph graph);

    /// <summary>Why the capture must be given up now, for the guest's sake; null if it need not be. Called from any thread.</summary>
    CaptureFailedException? Danger();

    /// <summary>Why a disk could not be read as it was, if known. Called from any thread.</summary>
    CaptureFailedException? WhyUnreadable();

    /// <summary>Restores the block graph. Does as much as it can and never throws.</summary>
    /// <returns>What could not be restored, or null.</returns>
    string? TakeDown();
}
