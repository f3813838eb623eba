using System.Globalization;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>
/// Captures disks with QEMU's <c>copy-before-write</c> filter: QEMU first copies what the guest is about to overwrite to the scratch, and
/// <c>snapshot-access</c> shows the disk as it was when the filter was inserted. <see cref="DiskNodes"/> shows how the nodes are connected.
/// </summary>
/// <remarks>
/// With <c>on-cbw-error=break-snapshot</c> and <c>cbw-timeout</c>, a scratch that is full, broken or slow costs the snapshot, never a guest
/// write. QEMU's blockdev-backup inserts the same filter with the opposite policy, so it is not used. QEMU 7.1 or later.
/// </remarks>
internal sealed class CopyBeforeWrite(IQmpMonitor qmp, IReadOnlyList<CapturedDisk> disks, string directory, IReadOnlyList<long> shares)
    : IDiskMethod
{
    /// <summary>The first QEMU that has everything this method needs.</summary>
    internal static readonly Version FirstQemu = new(7, 1, 0);

    /// <summary>
    /// The first QEMU whose <c>snapshot-access</c> reads more than one cluster correctly. Earlier, hbitmap_status() calls a run of saved
    /// clusters unsaved when an unsaved one follows it, and QEMU reads the disk as it is now instead (QEMU a4d5224c2c, "hbitmap: fix
    /// hbitmap_status() return value for first dirty bit case").
    /// </summary>
    private static readonly Version ReadsRuns = new(8, 0, 0);
    private const int TimeoutSeconds = 5;
    private readonly List<Scratch> _scratch = [];

    /// <inheritdoc/>
    public string Name => "copy-before-write";

    /// <inheritdoc/>
    public bool ReadSingleClusters { get; } = qmp.QemuVersion < ReadsRuns;

    /// <inheritdoc/>
    public void Prepare()
    {
        DiskNodes.AddGroups(qmp);
        foreach (CapturedDisk d in disks)
        {
            string image = d.Disk.NodeName;
            long share = shares[_scratch.Count];
            ScratchNote note = new(d.Number, image);
            _scratch.Add(new Scratch(qmp, AgentNames.Scratch(d.Number), note, directory, d.Disk.VirtualSize, share, bounded: true));
            DiskNodes.Add(qmp, d.Number, image);
            qmp.Execute(
                    "blockdev-add",
                    QmpJson.Object(
                        ("driver", "copy-before-write"),
                        ("node-name", AgentNames.Filter(d.Number)),
                        ("file", image),
                        ("target", AgentNames.Scratch(d.Number)),
                        ("on-cbw-error", "break-snapshot"),
                        ("cbw-timeout", TimeoutSeconds),
                        ("discard", "unmap")
                    )
                )
                .Dispose();
        }
        MustBeUntouched(NodeGraph.Read(qmp), VmDisk.ReadAll(qmp));
        foreach (CapturedDisk d in disks)
            DiskNodes.Plug(qmp, d.Disk.Device!, AgentNames.Disk(d.Number));
    }

    /// <summary>
    /// Checks that the disks are unchanged since our nodes were added. From then on, what other clients put above the image moved our nodes
    /// with it; what they added earlier would be bypassed when the device gets our node.
    /// </summary>
    private void MustBeUntouched(NodeGraph graph, IReadOnlyList<VmDisk> now)
    {
        foreach (CapturedDisk d in disks)
        {
            string image = d.Disk.NodeName;
            if (
                !now.Contains(d.Disk with { IsEncrypted = false })
                || graph.FileOf(AgentNames.Switch(d.Number)) != image
                || graph.FileOf(AgentNames.Filter(d.Number)) != image
            )
                throw DiskWatch.Changed(d.Disk.Name, "it is not the disk that it was when the capture began");
        }
    }

    /// <inheritdoc/>
    public void AddCut(QmpBatch batch) =>
        batch.Add("blockdev-reopen", DiskNodes.Lead(disks.Select(d => (d.Number, AgentNames.Filter(d.Number)))));

    /// <inheritdoc/>
    public (string Node, bool CanTrim) Expose(CapturedDisk disk)
    {
        string node = AgentNames.Access(disk.Number);
        qmp.Execute(
                "blockdev-add",
                QmpJson.Object(
                    ("driver", "snapshot-access"),
                    ("node-name", node),
                    ("file", AgentNames.Filter(disk.Number)),
                    ("discard", "unmap")
                )
            )
            .Dispose();
        return (node, true);
    }

    /// <inheritdoc/>
    public string? WhatChanged(CapturedDisk disk, NodeGraph graph)
    {
        (string top, string leads, string filter, string image) = (
            AgentNames.Disk(disk.Number),
            AgentNames.Switch(disk.Number),
            AgentNames.Filter(disk.Number),
            disk.Disk.NodeName
        );
        return graph.UsersOf(top).FirstOrDefault(u => !AgentNames.IsOurs(u)) is { } user ? $"somebody put node {user} above it"
            : !graph.IsRoot(top) ? "it was unplugged, or got another image"
            : graph.FileOf(top) != leads || graph.FileOf(leads) != filter ? "somebody removed the capture's filter"
            : graph.FileOf(filter) is { } below && below != image ? $"somebody put node {below} above its image {image}"
            : null;
    }

    /// <inheritdoc/>
    // QEMU itself gives up the snapshot rather than delay the guest.
    public CaptureFailedException? Danger() => null;

    /// <inheritdoc/>
    public CaptureFailedException? WhyUnreadable()
    {
        // qcow2 fails in pieces of a cluster and its tables: a scratch is full if it has no room for a few more.
        for (int i = 0; i < _scratch.Count; i++)
        {
            if (_scratch[i].Used > _scratch[i].Length - (_scratch[i].Length >> 3) - (1 << 20))
                return Full(disks[i].Disk.Name, _scratch[i].Length);
        }
        return null;
    }

    /// <summary>The failure for a disk whose scratch is used up.</summary>
    internal static CaptureFailedException Full(string disk, long length) =>
        new(
            Reasons.ScratchFull,
            string.Create(
                CultureInfo.InvariantCulture,
                $"disk {disk}: the guest overwrote more than the {length >> 20} MiB of scratch hold before the agent had copied it; the "
                    + $"guest did not wait, and no snapshot was kept. Raise --scratch-limit (agent.scratch in the chart), or capture when "
                    + $"the guest writes less"
            )
        );

    /// <inheritdoc/>
    public string? TakeDown()
    {
        Undo undo = new();
        foreach (CapturedDisk d in disks)
            DiskNodes.Remove(qmp, d.Number, undo);
        foreach (Scratch s in _scratch.ToArray())
            undo.Try(s.Remove, () => _scratch.Remove(s));
        undo.Try(() => DiskNodes.RemoveGroups(qmp));
        return undo.Problem;
    }
}
