using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Capture;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>What is done for a task.</summary>
/// <param name="places">Opens what tasks name.</param>
/// <param name="scratch">Space for what guests overwrite.</param>
/// <param name="program">The program that captures; null: this one.</param>
internal sealed class TaskWork(TaskPlaces places, Scratch scratch, string? program = null)
{
    /// <summary>Does a task from the beginning.</summary>
    /// <param name="task">The task.</param>
    /// <param name="running">Its status while it goes on; changed and handed to <paramref name="report"/>.</param>
    /// <param name="report">Tells of progress.</param>
    /// <param name="cancel">Gives it up.</param>
    /// <param name="released">The word that lets a held guest go on, once the operator gives it.</param>
    /// <exception cref="TaskFailure">It could not be done.</exception>
    internal async Task<SnapshotTaskStatus> Do(SnapshotTask task, SnapshotTaskStatus running, Func<SnapshotTaskStatus, Task> report, CancellationToken cancel, Task<string>? released = null)
    {
        await using TaskProgress progress = new(running, report);
        switch (task.Spec.Action)
        {
            case TaskAction.Restore:
                return await new RestoreWork(places).Do(task, progress, cancel).ConfigureAwait(false);
            case TaskAction.RestoreDisks:
                return await new RestoreDisksWork(places).Do(task, progress, cancel).ConfigureAwait(false);
        }
        using SafeFileHandle claim = await places.OpenClaim(task.Metadata.NamespaceProperty, task.Spec.Carrier, cancel).ConfigureAwait(false);
        if (task.Spec.Action == TaskAction.Delete) return Delete(claim, task.Spec.Directory);
        if (task.Spec.Action == TaskAction.Describe) return KeptMachine.Describe(claim, task.Spec.Directory);
        if (task.Spec.Source is not { } vm) throw new TaskFailure("BadTask", "the task names no virtual machine");
        using (TaskMonitor monitor = await places.OpenMonitor(task.Metadata.NamespaceProperty, vm, cancel).ConfigureAwait(false))
        {
            string? quiesce = task.Spec.Capture?.Quiesce;
            using SafeFileHandle? guestAgent = quiesce == "Never" ? null : await places.OpenGuestAgent(
                task.Metadata.NamespaceProperty, vm, required: quiesce == "Required", cancel).ConfigureAwait(false);
            using SafeFileHandle? objects = vm.Objects is { } text ? PassedText.Open(text, scratch.Directory) : null;
            using IDisposable counted = AgentMetrics.Begin();
            CaptureOrder order = new()
            {
                Monitor = monitor.Address,
                ContainerId = monitor.ContainerId,
                Output = Path.Join(OpenIn.PathOf(claim), task.Spec.Directory),
                How = task.Spec.Capture,
                GuestAgent = OpenIn.PathOf(guestAgent),
                Objects = OpenIn.PathOf(objects),
                Scratch = scratch,
            };
            await CaptureChild.Run(order, line =>
            {
                progress.Set(line.Percent, line.CopiedBytes + line.DiskCopiedBytes, line.PointInTime?.UtcDateTime);
                progress.Hold(line.HeldDisks is { } disks ? FinishedSnapshot.DisksOf(disks) : null);
            }, cancel, task.Spec.Capture?.DiskMethod == DiskCaptureMethod.VolumeSnapshot ? released : null, program).ConfigureAwait(false);
        }
        return Read(claim, task.Spec.Directory) ?? throw new TaskFailure("SnapshotLost", "the capture ended well, but its directory is not on the claim: does somebody else write there?");
    }

    /// <summary>Ends a task whose agent died in the middle: what it finished counts, what it began is removed or done again.</summary>
    internal async Task<SnapshotTaskStatus> Recover(SnapshotTask task, SnapshotTaskStatus running, Func<SnapshotTaskStatus, Task> report, CancellationToken cancel)
    {
        if (task.Spec.Action == TaskAction.Restore)
        {
            await using TaskProgress progress = new(running, report);
            return await new RestoreWork(places).Recover(task, progress, cancel).ConfigureAwait(false);
        }
        if (task.Spec.Action is TaskAction.RestoreDisks or TaskAction.Describe) return await Do(task, running, report, cancel).ConfigureAwait(false);
        string ns = task.Metadata.NamespaceProperty;
        using SafeFileHandle claim = await places.OpenClaim(ns, task.Spec.Carrier, cancel).ConfigureAwait(false);
        if (task.Spec.Action == TaskAction.Delete) return Delete(claim, task.Spec.Directory);
        string? frozen = task.Spec.Source is { } vm ? await FreeGuest(ns, vm, cancel).ConfigureAwait(false) : null;
        if (Read(claim, task.Spec.Directory) is { } finished) return finished;
        _ = SnapshotDirectoryWriter.SweepLeftovers(OpenIn.PathOf(claim));
        throw new TaskFailure("AgentRestarted", $"the agent was restarted in the middle of the capture; the guest runs on and nothing was kept{(frozen is null ? "" : $"; {frozen}")}. Create another snapshot");
    }

    private static SnapshotTaskStatus? Read(SafeFileHandle claim, string directory)
    {
        try
        {
            return FinishedSnapshot.Read(claim, directory);
        }
        catch (Exception e) when (e is SnapshotCorruptException or LinuxException or IOException)
        {
            throw new TaskFailure("SnapshotCorrupt", $"{directory}: {e.Message}");
        }
    }

    // The kernel has freed the guest's memory; descriptors that the dead one left in QEMU are removed here.
    // Returns why its file systems are still frozen, should they be.
    private async Task<string?> FreeGuest(string ns, VirtualMachineTarget vm, CancellationToken cancel)
    {
        try
        {
            using (TaskMonitor monitor = await places.OpenMonitor(ns, vm, cancel).ConfigureAwait(false))
            using (SafeFileHandle? guestAgent = await places.OpenGuestAgent(ns, vm, required: false, cancel).ConfigureAwait(false))
            using (IQmpMonitor qmp = monitor.Address.Open())
                return Leftovers.Sweep(qmp, qmp.PeerPid, OpenIn.PathOf(guestAgent)).NotThawed;
        }
        catch (Exception e) when (e is TaskFailure or CaptureFailedException or CaptureRefusedException or QmpException or LinuxException or IOException)
        {
            // It has ended, or somebody else talks to it: the next capture looks again.
            return null;
        }
    }

    private static SnapshotTaskStatus Delete(SafeFileHandle claim, string directory)
    {
        try
        {
            SnapshotDeletion.Delete(claim, directory);
        }
        catch (LinuxException e)
        {
            throw new TaskFailure("DeleteFailed", e.Message);
        }
        return new SnapshotTaskStatus { Phase = TaskPhase.Succeeded, Percent = 100 };
    }
}
