using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Disks.Graph;

/// <summary>A disk under capture and what belongs to it in QEMU.</summary>
/// <param name="Number">Its number in this capture; see <see cref="AgentNames"/>.</param>
/// <param name="Disk">The disk.</param>
internal sealed record CapturedDisk(int Number, VmDisk Disk);

/// <summary>
/// A way to keep disks as they were at one instant while their guest writes on. Its calls come from the thread that owns the monitor, in
/// this order:
/// <see cref="Prepare"/>, <see cref="AddCut"/> while the guest is stopped, <see cref="Expose"/>, copying, <see cref="TakeDown"/>.
/// </summary>
internal interface IDiskMethod
{
    /// <summary>The method's name in manifests and statuses.</summary>
    string Name { get; }

    /// <summary>Disks are to be read cluster by cluster: this QEMU answers longer questions wrongly.</summary>
    bool ReadSingleClusters { get; }

    /// <summary>Makes everything that can be made while the guest runs.</summary>
    void Prepare();

    /// <summary>Adds the commands that fix the point in time; they run while the guest is stopped.</summary>
    void AddCut(QmpBatch batch);

    /// <summary>Makes a node that shows a disk as it was; called once for each, after the guest runs again.</summary>
    /// <returns>The node, and whether what has been read of it can be trimmed.</returns>
    (string Node, bool CanTrim) Expose(CapturedDisk disk);

    /// <summary>What others have done to a disk since the cut, as a part of a sentence; null: nothing.</summary>
    string? WhatChanged(CapturedDisk disk, NodeGraph graph);

    /// <summary>Why the capture must be given up now, for the guest's sake; null: all is well. Called from any thread.</summary>
    CaptureFailedException? Danger();

    /// <summary>Why a disk could not be read as it was, if that can be told. Called from any thread.</summary>
    CaptureFailedException? WhyUnreadable();

    /// <summary>Puts the block graph back as it was. Goes as far as it can and never throws.</summary>
    /// <returns>What could not be put back, or null.</returns>
    string? TakeDown();
}
