using System.Text.Json;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>
/// How a disk captured with a filter is connected in QEMU's block graph, and how this agent or the next one restores the graph.
/// </summary>
/// <remarks>
/// <code>
///   before     device ──▶ image
///   prepared   device ──▶ disk ──▶ switch ──▶ image          filter ──▶ image
///   the cut    device ──▶ disk ──▶ switch ──▶ filter ──▶ image
///   after it                       access ──▶ filter
/// </code>
/// Other clients see <c>disk</c>: what they put above it (a backup's filter, an overlay) leaves <c>access</c> and <c>filter</c> alone. What
/// they put above <c>image</c>, QEMU moves below both the switch and the filter. So both may come and go at any moment, and the device gets
/// back whatever is below the filter then.
/// </remarks>
internal static class DiskNodes
{
    private const int Attempts = 5;

    /// <summary>Adds the throttle groups that the nodes name; they limit nothing.</summary>
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

    /// <summary>Creates <c>disk</c> and <c>switch</c> above an image. The device does not use them yet.</summary>
    internal static void Add(IQmpMonitor qmp, int number, string image)
    {
        qmp.Execute("blockdev-add", Throttle(AgentNames.Switch(number), AgentNames.SwitchGroup, image)).Dispose();
        qmp.Execute("blockdev-add", Throttle(AgentNames.Disk(number), AgentNames.DiskGroup, AgentNames.Switch(number))).Dispose();
    }

    /// <summary>Arguments of blockdev-reopen that point these disks' switches to other nodes, all at once.</summary>
    internal static string Lead(params IEnumerable<(int Number, string To)> switches)
    {
        IEnumerable<string> options = switches.Select(s => Throttle(AgentNames.Switch(s.Number), AgentNames.SwitchGroup, s.To));
        return QmpJson.Object(("options", new QmpJson.Raw($"[{string.Join(',', options)}]")));
    }

    /// <summary>Gives the device of a disk another node.</summary>
    internal static void Plug(IQmpMonitor qmp, string device, string node) =>
        qmp.Execute("qom-set", QmpJson.Object(("path", device), ("property", "drive"), ("value", node))).Dispose();

    /// <summary>
    /// Removes all nodes of a disk except the scratch. If another client has put something above <c>disk</c>, <c>disk</c> and <c>switch</c>
    /// stay and only pass on requests; a later sweep removes them.
    /// </summary>
    internal static void Remove(IQmpMonitor qmp, int number, Undo undo)
    {
        // While a filter has a reader, QEMU does not let other nodes write below it (cbw_child_perm()), so the switch could not lead past
        // it.
        undo.Try(() => Delete(qmp, NodeGraph.Read(qmp), AgentNames.Access(number)));
        undo.Try(() => LeadPast(qmp, number));
        undo.Try(() => Delete(qmp, NodeGraph.Read(qmp), AgentNames.Filter(number)));
        undo.Try(() => GiveBack(qmp, number));
    }

    /// <summary>Makes the switch lead past the filter, to what is below the filter now.</summary>
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
            // Another client may put a node above the image between our check and the command: the switch led past that node, and now leads
            // to it.
            if (from != filter)
                passed = to;
            TestHooks.After("filter-found");
            refused = Refusal(() => qmp.Execute("blockdev-reopen", Lead((number, to))).Dispose());
        }
        throw refused ?? new QmpException($"{filter} stays in use: the nodes below it change again and again");
    }

    /// <summary>Gives the device what is below our nodes, and removes them, unless another client's node or job is above them.</summary>
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
                // The node may still be in use: QEMU's stream job leaves its access to a node behind if it could not begin.
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
        throw refused ?? new QmpException($"{disk} stays in use: the nodes below it change again and again");
    }

    private static void PlugBack(IQmpMonitor qmp, string device, string disk, string leads, string image)
    {
        // QEMU aborts when a device is given the node that it already has (bdrv_replace_child_noperm()), and a command that libvirt lost
        // midway may have been executed.
        if (VmDisk.ReadAll(qmp).Any(d => d.Device == device && d.NodeName == disk))
            Plug(qmp, device, image);
        // Another client may put a node above ours, or above the image, between our check and the command: the guest gets that node.
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
    /// Ends the jobs whose filter the guest's writes bypassed for a moment: a backup that reports a failure is better than one that is
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
    /// Takes a step and returns QEMU's refusal, if any. QEMU refuses to let writes go past the filter of a backup that was just put above
    /// the image: the next attempt finds that filter.
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

    /// <summary>
    /// Takes a step, and repeats it once if the owner of the monitor went away midway: the step may have been taken or not.
    /// </summary>
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
            // It exists already, is in use, or is gone.
        }
    }
}
