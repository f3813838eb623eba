using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>
/// Captures disks with overlays, as in the KVM Forum 2018 talk. At the point in time the guest gets a new, empty image on top and writes
/// there. The old image no longer changes and is copied; then the overlay is committed back into it. Used only when the operator asks for
/// it.
/// </summary>
/// <remarks>
/// Meanwhile the guest's newest data is in the scratch, and is lost if QEMU ends, flushed or not. Therefore the overlay is watched rather
/// than bounded: before it reaches the limit, the agent gives up the capture and commits the overlay. If the agent dies, QEMU keeps the
/// file open, and the next agent commits it.
/// </remarks>
internal sealed class Overlay(IQmpMonitor qmp, IReadOnlyList<CapturedDisk> disks, string directory, IReadOnlyList<long> shares)
    : IDiskMethod
{
    private static readonly TimeSpan CommitLimit = TimeSpan.FromHours(2);
    private readonly List<Scratch> _scratch = [];
    private readonly HashSet<CapturedDisk> _cut = [];

    /// <inheritdoc/>
    public string Name => "overlay";

    /// <inheritdoc/>
    public bool ReadSingleClusters => false;

    /// <inheritdoc/>
    public void Prepare()
    {
        foreach (CapturedDisk d in disks)
        {
            long share = shares[_scratch.Count];
            ScratchNote note = new(d.Number, d.Disk.NodeName);
            _scratch.Add(new Scratch(qmp, AgentNames.Overlay(d.Number), note, directory, d.Disk.VirtualSize, share, bounded: false));
        }
    }

    /// <inheritdoc/>
    public void AddCut(QmpBatch batch)
    {
        List<string> actions = [];
        foreach (CapturedDisk d in disks)
        {
            string data = QmpJson.Object(("node", d.Disk.NodeName), ("overlay", AgentNames.Overlay(d.Number)));
            actions.Add(QmpJson.Object(("type", "blockdev-snapshot"), ("data", new QmpJson.Raw(data))));
            _cut.Add(d);
        }
        batch.Add("transaction", QmpJson.Object(("actions", new QmpJson.Raw($"[{string.Join(',', actions)}]"))));
    }

    /// <inheritdoc/>
    public (string Node, bool CanTrim) Expose(CapturedDisk disk) => (disk.Disk.NodeName, false);

    /// <inheritdoc/>
    public string? WhatChanged(CapturedDisk disk, NodeGraph graph)
    {
        string overlay = AgentNames.Overlay(disk.Number);
        return graph.UsersOf(overlay) is [var user, ..] ? $"somebody put node {user} above it"
            : !graph.IsRoot(overlay) ? "it was unplugged, or got another image"
            : null;
    }

    /// <inheritdoc/>
    public CaptureFailedException? WhyUnreadable() => null;

    /// <inheritdoc/>
    public CaptureFailedException? Danger()
    {
        for (int i = 0; i < _scratch.Count; i++)
        {
            // Leave room for what the guest writes until the commit has caught up.
            if (_scratch[i].Used > _scratch[i].Length / 2)
                return CopyBeforeWrite.Full(disks[i].Disk.Name, _scratch[i].Length / 2);
        }
        return null;
    }

    /// <inheritdoc/>
    public string? TakeDown()
    {
        Undo undo = new();
        foreach (CapturedDisk d in _cut.ToArray())
            undo.Try(() => CommitBack(qmp, d.Number, d.Disk.NodeName), () => _cut.Remove(d));
        foreach (Scratch s in _scratch.ToArray())
            undo.Try(s.Remove, () => _scratch.Remove(s));
        return undo.Problem;
    }

    /// <summary>Commits an overlay into the image below and lets the guest use that image again.</summary>
    internal static void CommitBack(IQmpMonitor qmp, int number, string below)
    {
        if (!IsInUse(qmp, AgentNames.Overlay(number), below))
            return;
        string job = AgentNames.Commit(number);
        if (StateOf(qmp, job) is null)
        {
            qmp.Execute(
                    "block-commit",
                    QmpJson.Object(
                        ("job-id", job),
                        ("device", AgentNames.Overlay(number)),
                        ("base-node", below),
                        ("auto-dismiss", true),
                        ("auto-finalize", true)
                    )
                )
                .Dispose();
        }
        bool completing = false;
        for (long end = Environment.TickCount64 + (long)CommitLimit.TotalMilliseconds; StateOf(qmp, job) is { } state; Thread.Sleep(5))
        {
            if (state == "ready" && !completing)
            {
                qmp.Execute("block-job-complete", QmpJson.Object(("device", job))).Dispose();
                completing = true;
            }
            if (Environment.TickCount64 > end)
                throw new QmpException($"QEMU did not commit {AgentNames.Overlay(number)} within {CommitLimit.TotalHours:0} h");
        }
        if (IsInUse(qmp, AgentNames.Overlay(number), below))
            throw new QmpException($"QEMU's commit of {AgentNames.Overlay(number)} failed; the guest runs on with the overlay");
    }

    private static bool IsInUse(IQmpMonitor qmp, string overlay, string below)
    {
        // Without the cut the overlay has no image below it.
        using QmpAnswer nodes = qmp.Execute("query-named-block-nodes", QmpJson.Object(("flat", true)));
        using QmpAnswer drives = qmp.Execute("query-block");
        return drives
                .Return.EnumerateArray()
                .Any(d => d.TryGetProperty("inserted", out QmpValue i) && i.GetProperty("node-name").GetString() == overlay)
            && nodes.Return.EnumerateArray().Any(n => n.GetProperty("node-name").GetString() == below);
    }

    private static string? StateOf(IQmpMonitor qmp, string job)
    {
        using QmpAnswer jobs = qmp.Execute("query-jobs");
        foreach (QmpValue j in jobs.Return.EnumerateArray())
        {
            if (j.GetProperty("id").GetString() == job)
                return j.GetProperty("status").GetString();
        }
        return null;
    }
}
