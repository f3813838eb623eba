using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.Vocabulary;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>Executes a task.</summary>
/// <param name="places">Opens what tasks name.</param>
/// <param name="scratch">Space for disk content that guests overwrite.</param>
/// <param name="program">The program that captures; null: this one.</param>
internal sealed class TaskWork(TaskResources places, Scratch scratch, string? program = null)
{
    /// <summary>Executes a task from the beginning.</summary>
    /// <param name="task">The task.</param>
    /// <param name="running">Its status while it runs; changed and passed to <paramref name="report"/>.</param>
    /// <param name="report">Writes the status.</param>
    /// <param name="released">The line that resumes a held guest, available once the operator releases it.</param>
    /// <param name="cancel">Cancels the task.</param>
    /// <param name="stop">This program ends; the next one does what a guest still needs.</param>
    /// <exception cref="TaskFailure">The task failed.</exception>
    internal async Task<SnapshotTaskStatus> Do(
        SnapshotTask task,
        SnapshotTaskStatus running,
        Func<SnapshotTaskStatus, Task> report,
        Task<string>? released,
        CancellationToken cancel,
        CancellationToken stop
    )
    {
        await using TaskProgress progress = new(running, report);
        switch (task.Spec.Action)
        {
            case TaskAction.Restore:
                return await new RestoreWork(places, program).Do(task, progress, cancel).ConfigureAwait(false);
            case TaskAction.RestoreDisks:
                return await new RestoreDisksWork(places).Do(task, progress, cancel).ConfigureAwait(false);
        }
        using SafeFileHandle claim = await places
            .OpenClaim(task.Metadata.NamespaceProperty, task.Spec.Carrier, cancel)
            .ConfigureAwait(false);
        if (task.Spec.Action == TaskAction.Delete)
            return Delete(claim, task.Spec.Directory);
        if (task.Spec.Action == TaskAction.Describe)
            return StoredMachine.Describe(claim, task.Spec.Directory);
        if (task.Spec.Source is not { } vm)
            throw new TaskFailure(Reasons.BadTask, "the task names no virtual machine");
        using (TaskMonitor monitor = await places.OpenMonitor(task.Metadata.NamespaceProperty, vm, cancel).ConfigureAwait(false))
        {
            string? quiesce = task.Spec.Capture?.Quiesce;
            using SafeFileHandle? guestAgent =
                quiesce == "Never"
                    ? null
                    : await places
                        .OpenGuestAgent(task.Metadata.NamespaceProperty, vm, required: quiesce == "Required", cancel)
                        .ConfigureAwait(false);
            using SafeFileHandle? objects = vm.Objects is { } text ? UnnamedTextFile.Open(text, scratch.Directory) : null;
            using IDisposable counted = AgentMetrics.Begin();
            CaptureOrder order = new()
            {
                Monitor = monitor.Address,
                ContainerId = monitor.ContainerId,
                Output = Path.Join(OpenInRoot.PathOf(claim), task.Spec.Directory),
                How = task.Spec.Capture,
                GuestAgent = OpenInRoot.PathOf(guestAgent),
                Objects = OpenInRoot.PathOf(objects),
                Scratch = scratch,
            };
            try
            {
                await CaptureChild
                    .Run(
                        order,
                        line =>
                        {
                            progress.Set(line.Percent, line.CopiedBytes + line.DiskCopiedBytes, line.PointInTime?.UtcDateTime);
                            progress.Hold(line.HeldDisks is { } disks ? FinishedSnapshot.DisksOf(disks) : null);
                        },
                        cancel,
                        task.Spec.Capture?.DiskMethod == DiskCaptureMethod.VolumeSnapshot ? released : null,
                        program
                    )
                    .ConfigureAwait(false);
            }
            catch (TaskFailure e) when (e.NeedsCare)
            {
                // Free the guest even if the task was cancelled or the claim is lost.
                (string guest, bool resumed) = await Release(task, vm, running, report, stop).ConfigureAwait(false);
                if (resumed || Read(claim, task.Spec.Directory) is null)
                    throw new TaskFailure(e.Reason, $"{e.Message}; {guest}");
            }
            catch (TaskFailure e) when (e.Reason == Reasons.AgentDied && Read(claim, task.Spec.Directory) is not null)
            {
                // Its last step was done: the snapshot is complete, and a guest that was to stay stopped is stopped.
            }
        }
        return Read(claim, task.Spec.Directory)
            ?? throw new TaskFailure(
                Reasons.SnapshotLost,
                "the capture succeeded, but its directory is not on the claim: find out who else writes there"
            );
    }

    /// <summary>
    /// Finishes a task whose agent died in the middle: a finished snapshot counts, unfinished work is removed or repeated.
    /// </summary>
    /// <remarks>
    /// The guest comes first, before the claim or anything else that may be gone or slow. Freeing it is retried until QEMU has answered.
    /// </remarks>
    internal async Task<SnapshotTaskStatus> Recover(
        SnapshotTask task,
        SnapshotTaskStatus running,
        Func<SnapshotTaskStatus, Task> report,
        CancellationToken cancel,
        CancellationToken stop = default
    )
    {
        if (task.Spec.Action == TaskAction.Restore)
        {
            await using TaskProgress progress = new(running, report);
            return await new RestoreWork(places, program).Recover(task, progress, cancel).ConfigureAwait(false);
        }
        if (task.Spec.Action is TaskAction.RestoreDisks or TaskAction.Describe)
            return await Do(task, running, report, null, cancel, stop).ConfigureAwait(false);
        (string? guest, bool resumed) =
            task.Spec.Action == TaskAction.Capture && task.Spec.Source is { } vm
                ? await Release(task, vm, running, report, stop).ConfigureAwait(false)
                : (null, false);
        string ns = task.Metadata.NamespaceProperty;
        try
        {
            using SafeFileHandle claim = await places.OpenClaim(ns, task.Spec.Carrier, cancel).ConfigureAwait(false);
            if (task.Spec.Action == TaskAction.Delete)
                return Delete(claim, task.Spec.Directory);
            if (Read(claim, task.Spec.Directory) is { } finished)
            {
                // The agent died after the snapshot's last step but before the guest was stopped permanently. The guest runs on, so this
                // snapshot is not the state to continue from.
                if (resumed)
                    throw new TaskFailure(
                        Reasons.AgentRestarted,
                        $"the agent was restarted before the guest was permanently stopped; {guest}. Create another snapshot"
                    );
                return finished;
            }
            _ = SnapshotDirectoryWriter.SweepLeftovers(OpenInRoot.PathOf(claim));
        }
        catch (TaskFailure e) when (guest is not null)
        {
            throw new TaskFailure(e.Reason, $"{e.Message}; {guest}");
        }
        throw new TaskFailure(
            Reasons.AgentRestarted,
            $"the agent was restarted during the capture, and no snapshot was kept; {guest}. Create another snapshot"
        );
    }

    private Task<(string Words, bool Resumed)> Release(
        SnapshotTask task,
        VirtualMachineTarget vm,
        SnapshotTaskStatus running,
        Func<SnapshotTaskStatus, Task> report,
        CancellationToken stop
    ) =>
        new GuestRelease(places, program).Run(
            task.Metadata.NamespaceProperty,
            vm,
            why =>
            {
                running.Message = $"the guest of a capture that died is not free yet: {why}";
                _ = report(running);
            },
            stop
        );

    private static SnapshotTaskStatus? Read(SafeFileHandle claim, string directory)
    {
        try
        {
            return FinishedSnapshot.Read(claim, directory);
        }
        catch (Exception e) when (e is SnapshotCorruptException or LinuxException or IOException)
        {
            throw new TaskFailure(Reasons.SnapshotCorrupt, $"{directory}: {e.Message}");
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
            throw new TaskFailure(Reasons.DeleteFailed, e.Message);
        }
        return new SnapshotTaskStatus { Phase = TaskPhase.Succeeded, Percent = 100 };
    }
}
