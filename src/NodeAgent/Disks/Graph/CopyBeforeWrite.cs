using System.Globalization;
using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Disks.Graph;

/// <summary>
/// Disks by QEMU's <c>copy-before-write</c> filter: what the guest is about to overwrite is copied to the scratch first, and <c>snapshot-access</c>
/// shows the disk as it was when the filter was put in.
/// </summary>
/// <remarks>
/// <code>
///   before     device ──▶ disk            filter ──▶ disk, scratch     (made while the guest runs, nobody writes through it)
///   the cut    device ──▶ filter ──▶ disk                              (qom-set drive, the guest is stopped)
///   after      access ──▶ filter                                       (exported over NBD)
/// </code>
/// With <c>on-cbw-error=break-snapshot</c> and <c>cbw-timeout</c> a scratch that is full, broken or slow costs the snapshot, never a write of the
/// guest. QEMU's blockdev-backup puts in the same filter with the opposite rule, so it is not used. QEMU 7.1 or later.
/// </remarks>
internal sealed class CopyBeforeWrite(IQmpMonitor qmp, IReadOnlyList<CapturedDisk> disks, string directory, IReadOnlyList<long> shares) : IDiskMethod
{
    /// <summary>The first QEMU that has all of it.</summary>
    internal static readonly Version FirstQemu = new(7, 1, 0);
    /// <summary>
    /// The first whose <c>snapshot-access</c> is right for reads of more than one cluster: until then hbitmap_status() calls a run of saved clusters unsaved when an
    /// unsaved one follows it, and the disk as it is now is read for it (QEMU a4d5224c2c, "hbitmap: fix hbitmap_status() return value for first dirty bit case").
    /// </summary>
    private static readonly Version ReadsRuns = new(8, 0, 0);
    private const int TimeoutSeconds = 5;
    private readonly List<Scratch> _scratch = [];
    private readonly List<CapturedDisk> _filters = [];
    private readonly HashSet<CapturedDisk> _switched = [];
    private readonly HashSet<CapturedDisk> _exposed = [];

    /// <inheritdoc/>
    public string Name => "copy-before-write";

    /// <inheritdoc/>
    public bool ReadSingleClusters { get; } = qmp.QemuVersion < ReadsRuns;

    /// <inheritdoc/>
    public void Prepare()
    {
        foreach (CapturedDisk d in disks)
        {
            _scratch.Add(new Scratch(qmp, AgentNames.Scratch(d.Number), new ScratchNote(d.Number, d.Disk.NodeName), directory, d.Disk.VirtualSize, shares[d.Number], bounded: true));
            qmp.Execute("blockdev-add", QmpJson.Object(
                ("driver", "copy-before-write"), ("node-name", AgentNames.Filter(d.Number)), ("file", d.Disk.NodeName), ("target", AgentNames.Scratch(d.Number)),
                ("on-cbw-error", "break-snapshot"), ("cbw-timeout", TimeoutSeconds), ("discard", "unmap"))).Dispose();
            _filters.Add(d);
        }
    }

    /// <inheritdoc/>
    public void AddCut(QmpBatch batch)
    {
        foreach (CapturedDisk d in disks)
        {
            batch.Add("qom-set", SetDrive(d, AgentNames.Filter(d.Number)));
            _switched.Add(d);
        }
    }

    /// <inheritdoc/>
    public (string Node, bool CanTrim) Expose(CapturedDisk disk)
    {
        string node = AgentNames.Access(disk.Number);
        qmp.Execute("blockdev-add", QmpJson.Object(("driver", "snapshot-access"), ("node-name", node), ("file", AgentNames.Filter(disk.Number)), ("discard", "unmap"))).Dispose();
        _exposed.Add(disk);
        return (node, true);
    }

    /// <inheritdoc/>
    // QEMU itself gives the snapshot up rather than hold up the guest.
    public CaptureFailedException? Danger() => null;

    /// <inheritdoc/>
    public CaptureFailedException? WhyUnreadable()
    {
        // qcow2 fails in pieces of a cluster and its tables: full is what has not room for a few more.
        for (int i = 0; i < _scratch.Count; i++)
        {
            if (_scratch[i].Used > _scratch[i].Length - (_scratch[i].Length >> 3) - (1 << 20))
                return Full(disks[i].Disk.Name, _scratch[i].Length);
        }
        return null;
    }

    /// <summary>The scratch of a disk is used up.</summary>
    internal static CaptureFailedException Full(string disk, long length) => new("ScratchFull", string.Create(CultureInfo.InvariantCulture,
        $"disk {disk}: the guest overwrote more than the scratch of {length >> 20} MiB holds before it was copied; the guest was not held up, no snapshot was kept. Raise --scratch-limit (agent.scratch in the chart), or capture when the guest writes less"));

    /// <inheritdoc/>
    public string? TakeDown()
    {
        Undo undo = new();
        foreach (CapturedDisk d in _exposed.ToArray())
            undo.Try(() => qmp.Execute("blockdev-del", QmpJson.Object(("node-name", AgentNames.Access(d.Number)))).Dispose(), () => _exposed.Remove(d));
        foreach (CapturedDisk d in _switched.ToArray())
            undo.Try(() => PutBack(d), () => _switched.Remove(d));
        foreach (CapturedDisk d in _filters.ToArray())
            undo.Try(() => qmp.Execute("blockdev-del", QmpJson.Object(("node-name", AgentNames.Filter(d.Number)))).Dispose(), () => _filters.Remove(d));
        foreach (Scratch s in _scratch.ToArray())
            undo.Try(s.Remove, () => _scratch.Remove(s));
        return undo.Problem;
    }

    /// <summary>Only from the filter: QEMU aborts when a device is given the node that it has (bdrv_replace_child_noperm()), as one has whose cut was never sent.</summary>
    private void PutBack(CapturedDisk d)
    {
        // What libvirt lost in the middle may have been done.
        for (int attempt = 0; VmDisk.ReadAll(qmp).Any(v => v.Device == d.Disk.Device && v.NodeName == AgentNames.Filter(d.Number)); attempt++)
        {
            try
            {
                qmp.Execute("qom-set", SetDrive(d, d.Disk.NodeName)).Dispose();
            }
            catch (QmpException e) when (e.Interrupted && attempt == 0)
            {
                // Looked at once more.
            }
        }
    }

    private static string SetDrive(CapturedDisk d, string node) => QmpJson.Object(("path", d.Disk.Device!), ("property", "drive"), ("value", node));
}
