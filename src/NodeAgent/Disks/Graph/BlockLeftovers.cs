using System.Text.Json;
using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Disks.Graph;

/// <summary>
/// Puts a block graph in order after an agent that died: exports, filters, overlays and scratch nodes whose names are ours. A leftover job would make a
/// later live migration fail.
/// </summary>
internal static class BlockLeftovers
{
    /// <summary>Removes all of it. Descriptors are the business of the sweep of descriptors, which comes afterwards.</summary>
    /// <returns>How many things were removed.</returns>
    /// <exception cref="CaptureFailedException">Something could not be removed; named.</exception>
    internal static int Sweep(IQmpMonitor qmp)
    {
        HashSet<string> nodes = ReadNodes(qmp);
        bool serves = QemuMark.Take(qmp, AgentNames.NbdServer);
        if (nodes.Count == 0 && !serves)
            return 0;
        // Should we die now, the next one is to find it.
        if (serves)
            QemuMark.Put(qmp, AgentNames.NbdServer);
        Undo undo = new();
        int removed = SweepExports(qmp, undo);
        // A filter that somebody reads through lets nobody else write below it (cbw_child_perm()), so that its disk could not go back there.
        Delete(AgentNames.IsAccess);
        IReadOnlyList<ScratchNote> notes = ScratchNote.ReadAll(qmp);
        foreach (VmDisk drive in VmDisk.ReadAll(qmp).Where(d => d.Device is not null))
        {
            if (notes.FirstOrDefault(n => AgentNames.Filter(n.Disk) == drive.NodeName) is { } note)
                undo.Try(() => qmp.Execute("qom-set", QmpJson.Object(("path", drive.Device!), ("property", "drive"), ("value", note.Below))).Dispose());
            else if (AgentNames.IsFilter(drive.NodeName))
                undo.Try(() => throw new QmpException($"{drive.NodeName} is in use and nothing tells what was there before"));
        }
        foreach (ScratchNote note in notes)
            undo.Try(() => Overlay.CommitBack(qmp, note.Disk, note.Below));
        // From the top down: nobody may use what is removed.
        Delete(AgentNames.IsFilter);
        Delete(AgentNames.IsOverlay);
        Delete(AgentNames.IsScratch);
        return undo.Problem is null ? removed : throw new CaptureFailedException("LeftoversRemain", $"what an earlier agent left in QEMU's block graph could not be removed: {undo.Problem}");

        void Delete(Func<string, bool> kind)
        {
            foreach (string name in nodes.Where(kind))
                undo.Try(() => qmp.Execute("blockdev-del", QmpJson.Object(("node-name", name))).Dispose(), () => removed++);
        }
    }

    private static int SweepExports(IQmpMonitor qmp, Undo undo)
    {
        int removed = 0;
        using JsonDocument exports = qmp.Execute("query-block-exports");
        foreach (JsonElement e in exports.RootElement.GetProperty("return").EnumerateArray())
        {
            string id = e.GetProperty("id").GetString()!;
            if (!AgentNames.IsOurs(id))
                continue;
            if (!e.GetProperty("shutting-down").GetBoolean())
                undo.Try(() => qmp.Execute("block-export-del", QmpJson.Object(("id", id), ("mode", "hard"))).Dispose(), () => removed++);
        }
        if (!undo.Try(() => NbdExports.WaitUntilGone(qmp)))
            return removed;
        // With the duplicates the connections of the dead one end, those in a handshake too.
        for (int i = 0; i < AgentNames.MostConnections; i++)
            undo.Try(() => QemuMark.Take(qmp, AgentNames.Connection(i)));
        undo.Try(() => NbdExports.LetMainLoopTurn(qmp));
        if (QemuMark.Take(qmp, AgentNames.NbdServer))
            NbdExports.StopServer(qmp);
        return removed;
    }

    private static HashSet<string> ReadNodes(IQmpMonitor qmp)
    {
        using JsonDocument nodes = qmp.Execute("query-named-block-nodes", QmpJson.Object(("flat", true)));
        return [.. nodes.RootElement.GetProperty("return").EnumerateArray().Select(n => n.GetProperty("node-name").GetString()!).Where(AgentNames.IsOurs)];
    }
}
