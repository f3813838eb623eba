using System.Text.Json;
using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Disks.Graph;

/// <summary>
/// How a disk under capture by a filter hangs in QEMU's block graph, and how it is put back, by this agent or by the next one.
/// </summary>
/// <remarks>
/// <code>
///   before     device ──▶ image
///   prepared   device ──▶ disk ──▶ switch ──▶ image          filter ──▶ image
///   the cut    device ──▶ disk ──▶ switch ──▶ filter ──▶ image
///   after it                       access ──▶ filter
/// </code>
/// Others see <c>disk</c>: what they put above it (a backup's filter, an overlay) leaves <c>access</c> and <c>filter</c> alone. What they
/// put above
/// <c>image</c>, QEMU moves below the switch and the filter alike. So both may come and go at any moment, and what is put back is what is
/// below the filter then.
/// </remarks>
internal static class DiskNodes
{
    private const int Attempts = 5;

    /// <summary>The throttle groups that the nodes name; they limit nothing.</summary>
    internal static void AddGroups(IQmpMonitor qmp)
    {
        foreach (string group in (ReadOnlySpan<string>)[AgentNames.SwitchGroup, AgentNames.DiskGroup])
            TryExecute(qmp, "object-add", QmpJson.Object(("qom-type", "throttle-group"), ("id", group)));
    }

    /// <summary>Removes them, unless a node that had to stay needs them.</summary>
    internal static void RemoveGroups(IQmpMonitor qmp)
    {
        foreach (string group in (ReadOnlySpan<string>)[AgentNames.SwitchGroup, AgentNames.DiskGroup])
            TryExecute(qmp, "object-del", QmpJson.Object(("id", group)));
    }

    /// <summary>Makes <c>disk</c> and <c>switch</c> above an image. The device does not use them yet.</summary>
    internal static void Add(IQmpMonitor qmp, int number, string image)
    {
        qmp.Execute("blockdev-add", Throttle(AgentNames.Switch(number), AgentNames.SwitchGroup, image)).Dispose();
        qmp.Execute("blockdev-add", Throttle(AgentNames.Disk(number), AgentNames.DiskGroup, AgentNames.Switch(number))).Dispose();
    }

    /// <summary>Arguments of blockdev-reopen that let these disks' switches lead to other nodes, all at once.</summary>
    internal static string Lead(params IEnumerable<(int Number, string To)> switches)
    {
        IEnumerable<string> options = switches.Select(s => Throttle(AgentNames.Switch(s.Number), AgentNames.SwitchGroup, s.To));
        return QmpJson.Object(("options", new QmpJson.Raw($"[{string.Join(',', options)}]")));
    }

    /// <summary>Gives the device of a disk another node.</summary>
    internal static void Plug(IQmpMonitor qmp, string device, string node) =>
        qmp.Execute("qom-set", QmpJson.Object(("path", device), ("property", "drive"), ("value", node))).Dispose();

    /// <summary>
    /// Removes all nodes of a disk but the scratch. What others have put above <c>disk</c> keeps it and <c>switch</c>, which then only
    /// hand on what they get; a later sweep removes them.
    /// </summary>
    internal static void Remove(IQmpMonitor qmp, int number, Undo undo)
    {
        // A filter that somebody reads through lets nobody else write below it (cbw_child_perm()), so that the switch could not lead past
        // it.
        undo.Try(() => Delete(qmp, NodeGraph.Read(qmp), AgentNames.Access(number)));
        undo.Try(() => LeadPast(qmp, number));
        undo.Try(() => Delete(qmp, NodeGraph.Read(qmp), AgentNames.Filter(number)));
        undo.Try(() => GiveBack(qmp, number));
    }

    /// <summary>Lets the switch lead past the filter, to what is below that now.</summary>
    private static void LeadPast(IQmpMonitor qmp, int number)
    {
        (string leads, string filter) = (AgentNames.Switch(number), AgentNames.Filter(number));
        string? passed = null;
        QmpException? refused = null;
        for (int attempt = 0; attempt < Attempts; attempt++)
        {
            NodeGraph graph = NodeGraph.Read(qmp);
            string? to = graph.FileOf(filter);
            if (to is null || graph.FileOf(leads) is not { } from || from == to)
            {
                EndPassed(qmp, graph, passed);
                return;
            }
            // Between the look and the command somebody may have put a node above the image: the switch led past it, and now leads there.
            if (from != filter)
                passed = to;
            TestHooks.After("filter-found");
            refused = Refusal(() => qmp.Execute("blockdev-reopen", Lead((number, to))).Dispose());
        }
        throw refused ?? new QmpException($"{filter} stays in use: what is below it changes again and again");
    }

    /// <summary>Gives the device what is below our nodes, and removes them, unless somebody else's node or job is above them.</summary>
    private static void GiveBack(IQmpMonitor qmp, int number)
    {
        (string disk, string leads) = (AgentNames.Disk(number), AgentNames.Switch(number));
        QmpException? refused = null;
        for (int attempt = 0; attempt < Attempts; attempt++)
        {
            NodeGraph graph = NodeGraph.Read(qmp);
            if (graph.UsersOf(disk).Count > 0 || graph.FileOf(leads) is not { } image || image == AgentNames.Filter(number))
                return;
            VmDisk? drive = VmDisk.ReadAll(qmp).FirstOrDefault(d => d.NodeName == disk && d.Device is not null);
            if (drive is null || !graph.IsRoot(disk))
            {
                // In use all the same: QEMU's stream job leaves its access to a node behind when it could not begin.
                TryExecute(qmp, "blockdev-del", QmpJson.Object(("node-name", disk)));
                TryExecute(qmp, "blockdev-del", QmpJson.Object(("node-name", leads)));
                return;
            }
            TestHooks.After("disk-found");
            refused = Refusal(() =>
            {
                Bitmaps.Move(qmp, disk, image);
                PlugBack(qmp, drive.Device!, disk, leads, image);
            });
        }
        throw refused ?? new QmpException($"{disk} stays in use: what is below it changes again and again");
    }

    private static void PlugBack(IQmpMonitor qmp, string device, string disk, string leads, string image)
    {
        // QEMU aborts when a device is given the node that it has (bdrv_replace_child_noperm()); what libvirt lost in the middle may have
        // been done.
        if (VmDisk.ReadAll(qmp).Any(d => d.Device == device && d.NodeName == disk))
            Plug(qmp, device, image);
        // Somebody may have put a node above ours, or above the image, between the look and the command: the guest gets that one.
        if (!VmDisk.ReadAll(qmp).Any(d => d.Device == device && d.NodeName == image))
            return;
        NodeGraph graph = NodeGraph.Read(qmp);
        string? right = graph.UsersOf(disk).FirstOrDefault(graph.Has) ?? graph.FileOf(leads);
        if (right is null || right == image)
            return;
        Plug(qmp, device, right);
        EndPassed(qmp, graph, right);
    }

    /// <summary>
    /// Ends the jobs whose filter the guest's writes passed by for a moment: better a backup that says that it failed than one that is
    /// wrong.
    /// </summary>
    private static void EndPassed(IQmpMonitor qmp, NodeGraph graph, string? passed)
    {
        if (passed is null)
            return;
        foreach ((string id, _) in BlockJobs.Foreign(qmp).Where(j => graph.Reaches(j.Id, passed)))
            TryExecute(qmp, "block-job-cancel", QmpJson.Object(("device", id), ("force", true)));
    }

    /// <summary>
    /// Takes a step, and tells what QEMU has against it. Past the filter of a backup that has just been put above the image it lets nobody
    /// write: the next look finds it.
    /// </summary>
    private static QmpException? Refusal(Action step)
    {
        try
        {
            Again(step);
            return null;
        }
        catch (QmpException e) when (e.ErrorClass is not null)
        {
            return e;
        }
    }

    private static void Delete(IQmpMonitor qmp, NodeGraph graph, string node)
    {
        if (graph.Has(node))
            qmp.Execute("blockdev-del", QmpJson.Object(("node-name", node))).Dispose();
    }

    private static string Throttle(string node, string group, string file) =>
        QmpJson.Object(("driver", "throttle"), ("node-name", node), ("throttle-group", group), ("discard", "unmap"), ("file", file));

    /// <summary>Takes a step, once more when the owner of the monitor went away in the middle: it may have been taken or not.</summary>
    private static void Again(Action step)
    {
        try
        {
            step();
        }
        catch (QmpException e) when (e.Interrupted)
        {
            step();
        }
    }

    private static void TryExecute(IQmpMonitor qmp, string command, string arguments)
    {
        try
        {
            qmp.Execute(command, arguments).Dispose();
        }
        catch (QmpException e) when (e.ErrorClass is not null)
        {
            // There already, in use, or gone.
        }
    }
}
