using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>
/// Cleans up a block graph after an agent that died: exports, filters, overlays and scratch nodes with our names. A leftover job would make
/// a later live migration fail.
/// </summary>
internal static class BlockLeftovers
{
    /// <summary>Removes all of them. The descriptor sweep, which comes afterwards, removes the descriptors.</summary>
    /// <param name="qmp">QEMU.</param>
    /// <param name="process">QEMU's process.</param>
    /// <returns>How many things were removed.</returns>
    /// <exception cref="CaptureFailedException">Something could not be removed; the message names it.</exception>
    internal static int Sweep(IQmpMonitor qmp, CheckedProcess? process)
    {
        HashSet<string> nodes = ReadNodes(qmp);
        bool serves = NbdListener.Serves(qmp, process);
        if (nodes.Count == 0 && !serves)
            return 0;
        // If we die now, the next agent must find the note.
        if (serves)
            QemuMark.Put(qmp, AgentNames.NbdServer);
        Undo undo = new();
        int removed = SweepExports(qmp, serves, undo);
        undo.Try(() => Bitmaps.RemoveOurs(qmp, undo));
        foreach (int number in nodes.Where(n => !AgentNames.IsOverlay(n)).Select(AgentNames.NumberOf).Where(n => n >= 0).Distinct())
            DiskNodes.Remove(qmp, number, undo);
        IReadOnlyList<ScratchNote> notes = ScratchNote.ReadAll(qmp);
        foreach (ScratchNote note in notes)
            undo.Try(() => Overlay.CommitBack(qmp, note.Disk, note.Below));
        Delete(AgentNames.IsOverlay);
        Delete(AgentNames.IsScratch);
        undo.Try(() => DiskNodes.RemoveGroups(qmp));
        if (undo.Problem is null)
            return removed + nodes.Except(ReadNodes(qmp)).Count();
        throw BlockJobs.Foreign(qmp) is [var job, ..]
            ? new CaptureFailedException(
                Reasons.BlockJobActive,
                $"what an earlier capture left in QEMU's block graph cannot be removed while job {job.Id} ({job.Type}) runs "
                    + $"there: {undo.Problem}; "
                    + "try again when the job has ended"
            )
            : new CaptureFailedException(
                Reasons.LeftoversRemain,
                $"the agent could not remove what an earlier agent left in QEMU's block graph: {undo.Problem}"
            );

        void Delete(Func<string, bool> kind)
        {
            foreach (string name in ReadNodes(qmp).Where(kind))
                undo.Try(() => qmp.Execute("blockdev-del", QmpJson.Object(("node-name", name))).Dispose());
        }
    }

    private static int SweepExports(IQmpMonitor qmp, bool serves, Undo undo)
    {
        int removed = 0;
        using QmpAnswer exports = qmp.Execute("query-block-exports");
        foreach (QmpValue e in exports.Return.EnumerateArray())
        {
            string id = e.GetProperty("id").GetString();
            if (!AgentNames.IsOurs(id))
                continue;
            if (!e.GetProperty("shutting-down").GetBoolean())
                undo.Try(() => qmp.Execute("block-export-del", QmpJson.Object(("id", id), ("mode", "hard"))).Dispose(), () => removed++);
        }
        if (!undo.Try(() => NbdExports.WaitUntilGone(qmp)))
            return removed;
        // Closing the duplicates ends the dead agent's connections, those in a handshake too.
        for (int i = 0; i < AgentNames.MostConnections; i++)
            undo.Try(() => QemuMark.Take(qmp, AgentNames.Connection(i)));
        undo.Try(() => NbdExports.LetMainLoopTurn(qmp));
        if (serves)
            undo.Try(() => NbdExports.StopServer(qmp), () => QemuMark.Take(qmp, AgentNames.NbdServer));
        return removed;
    }

    private static HashSet<string> ReadNodes(IQmpMonitor qmp)
    {
        using QmpAnswer nodes = qmp.Execute("query-named-block-nodes", QmpJson.Object(("flat", true)));
        return [.. nodes.Return.EnumerateArray().Select(n => n.GetProperty("node-name").GetString()).Where(AgentNames.IsOurs)];
    }
}
