using System.Diagnostics;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Linux;
using Bgsnap.NodeAgent.Processes;
using Bgsnap.Vocabulary;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>Executes a Restore task: loads a snapshot into the QEMU that waits in the target's pod.</summary>
/// <param name="places">Opens what tasks name.</param>
/// <param name="program">The program that restores; null: this one.</param>
internal sealed class RestoreWork(TaskResources places, string? program = null)
{
    // QEMU creates its socket before it allocates memory or opens its disks; KubeVirt does a lot before libvirt starts QEMU.
    private static readonly TimeSpan SocketPatience = TimeSpan.FromSeconds(30),
        DomainPatience = TimeSpan.FromMinutes(2);
    private const string Paused =
        "it is paused, as it was captured (or as its QEMU was started, with -S): resume it with QMP cont or virsh resume";

    // Longer than storage takes to fail over. The next attempt remounts the claim on the node, because a dead mount may never recover.
    private static readonly TimeSpan UnreadablePatience = TimeSpan.FromMinutes(2);

    /// <summary>Restores.</summary>
    /// <exception cref="TaskFailure">The restore failed; the target's guest does not run.</exception>
    internal async Task<SnapshotTaskStatus> Do(SnapshotTask task, TaskProgress progress, CancellationToken cancel)
    {
        string ns = task.Metadata.NamespaceProperty;
        VirtualMachineTarget vm = Target(task);
        using SafeFileHandle claim = await places.OpenClaim(ns, task.Spec.Carrier, cancel).ConfigureAwait(false);
        using SafeFileHandle snapshot = OpenSnapshot(claim, task.Spec.Directory);
        using (TaskMonitor monitor = await AwaitMonitor(ns, vm, cancel).ConfigureAwait(false))
        {
            using SafeFileHandle? guestAgent = await places.OpenGuestAgent(ns, vm, required: false, cancel).ConfigureAwait(false);
            RestoreSummaryLine end = await WhileReadable(
                    progress,
                    (tell, readable) =>
                        RestoreChild.Run(
                            monitor,
                            OpenInRoot.PathOf(snapshot),
                            OpenInRoot.PathOf(guestAgent),
                            task.Spec.Restore,
                            tell,
                            readable,
                            program
                        ),
                    cancel
                )
                .ConfigureAwait(false);
            AgentMetrics.Restored(end.RamBytes, end.DiskBytes);
            SnapshotTaskStatus status = Succeeded(end.StillFrozen, end.GuestState);
            bool sawItBegin = end.Instant?.TakenOver != true;
            status.Result = new CaptureResult
            {
                // A process that took over from a dead one knows neither time.
                TimeToRunMicroseconds = sawItBegin ? end.TimeToRunMicroseconds : null,
                TotalMicroseconds = sawItBegin ? end.TotalMicroseconds : null,
                RamBytes = end.RamBytes,
                RestoreMode = ModeOf(end.Method),
                RestoreModeReason = end.MethodReason,
                Faults = end.Instant?.Faults,
                FaultP50Microseconds = end.Instant?.FaultP50Microseconds,
                FaultP99Microseconds = end.Instant?.FaultP99Microseconds,
                FaultMaxMicroseconds = end.Instant?.FaultMaxMicroseconds,
            };
            return status;
        }
    }

    /// <summary>Gives up if the snapshot stays unreadable for long; the guest waits, and the next task takes over.</summary>
    private static async Task<RestoreSummaryLine> WhileReadable(
        TaskProgress progress,
        Func<Action<RestoreProgressLine>, CancellationToken, Task<RestoreSummaryLine>> work,
        CancellationToken cancel
    )
    {
        using CancellationTokenSource unreadable = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        long? since = null;
        string? problem = null;
        try
        {
            return await work(
                    p =>
                    {
                        Tell(progress, p);
                        problem = p.Problem;
                        if (problem is null)
                            since = null;
                        else if (Stopwatch.GetElapsedTime(since ??= Stopwatch.GetTimestamp()) > UnreadablePatience)
                            unreadable.Cancel();
                    },
                    unreadable.Token
                )
                .ConfigureAwait(false);
        }
        catch (TaskFailure) when (unreadable.IsCancellationRequested && !cancel.IsCancellationRequested)
        {
            throw new TaskFailure(
                Reasons.SnapshotUnreadable,
                $"{problem ?? "the snapshot cannot be read"}; unreadable for {UnreadablePatience.TotalMinutes:0} minutes: the operator "
                    + "remounts its claim"
            );
        }
    }

    private static void Tell(TaskProgress progress, RestoreProgressLine p)
    {
        // In this phase all RAM is loaded, and the kernel is only making its pages huge.
        progress.Set(p.Phase == "HugePages" ? 100 : p.Percent, p.CopiedBytes);
        // In the other modes a running guest has all its RAM.
        if (!p.GuestRuns || p.Method != "instant")
            return;
        CaptureResult measured = new()
        {
            TimeToRunMicroseconds = p.TimeToRunMicroseconds > 0 ? p.TimeToRunMicroseconds : null,
            RestoreMode = ModeOf(p.Method),
            RestoreModeReason = p.MethodReason,
            Faults = p.Faults,
        };
        progress.GuestRuns(measured, p.Problem);
    }

    private static string ModeOf(string method) => char.ToUpperInvariant(method[0]) + method[1..];

    /// <summary>
    /// Finishes a task whose agent died in the middle. A guest that waits for its memory gets it; a guest that runs and waits for nothing
    /// has everything it needs.
    /// </summary>
    /// <remarks>QEMU must not be asked anything before that, because QEMU itself may be waiting.</remarks>
    internal async Task<SnapshotTaskStatus> Recover(SnapshotTask task, TaskProgress progress, CancellationToken cancel)
    {
        if (task.Spec.Restore?.Mode is not (Crds.V1Alpha1.RestoreMode.Stream or Crds.V1Alpha1.RestoreMode.Eager))
        {
            try
            {
                return await Do(task, progress, cancel).ConfigureAwait(false);
            }
            catch (TaskFailure e) when (e.Reason == Reasons.TargetNotWaiting)
            {
                // No restore was begun that could be continued.
            }
        }
        string ns = task.Metadata.NamespaceProperty;
        VirtualMachineTarget vm = Target(task);
        using (
            TaskMonitor monitor = await places.OpenMonitor(ns, vm, cancel, Reasons.TargetEnded, Reasons.TargetEnded).ConfigureAwait(false)
        )
        {
            using SafeFileHandle claim = await places.OpenClaim(ns, task.Spec.Carrier, cancel).ConfigureAwait(false);
            using SafeFileHandle directory = OpenSnapshot(claim, task.Spec.Directory);
            using SafeFileHandle? guestAgent = await places.OpenGuestAgent(ns, vm, required: false, cancel).ConfigureAwait(false);
            string state;
            try
            {
                // The dead process may have died before it thawed the guest. Thawing a guest that is not frozen does nothing.
                RestoredLine found = await RestoreChild
                    .Ask(monitor, OpenInRoot.PathOf(directory), OpenInRoot.PathOf(guestAgent), cancel, program)
                    .ConfigureAwait(false);
                if (Engine.Restore.RestoreTarget.HasAll(found.GuestState))
                    return Succeeded(found.StillFrozen, found.GuestState);
                state = found.GuestState;
            }
            catch (TaskFailure e) when (!cancel.IsCancellationRequested)
            {
                state = e.Message;
            }
            throw new TaskFailure(
                Reasons.AgentRestarted,
                "the agent was restarted during the restore; "
                    + $"the guest of pod {vm.PodName} does not run ({state}): recreate the pod to restore again"
            );
        }
    }

    // If the guest has everything it needs, the restore succeeded, even if the guest's file systems are still frozen or it is paused; the
    // status says so.
    internal static SnapshotTaskStatus Succeeded(string? frozen, string state)
    {
        (string? reason, string? message) =
            frozen is not null ? (Reasons.GuestFrozen, frozen)
            : state == "paused" ? (Reasons.GuestPaused, Paused)
            : ((string?)null, (string?)null);
        return new()
        {
            Phase = TaskPhase.Succeeded,
            Percent = 100,
            Reason = reason,
            Message = message,
        };
    }

    // A container that has just started may not have its QEMU yet.
    private async Task<TaskMonitor> AwaitMonitor(string ns, VirtualMachineTarget vm, CancellationToken cancel)
    {
        long begin = Stopwatch.GetTimestamp();
        TimeSpan patience = vm.LibvirtDomain is null ? SocketPatience : DomainPatience;
        while (true)
        {
            try
            {
                return await places.OpenMonitor(ns, vm, cancel, Reasons.TargetEnded, Reasons.QemuNotFound).ConfigureAwait(false);
            }
            catch (TaskFailure e)
                when (e.Reason is Reasons.SocketNotFound or Reasons.QemuNotFound && Stopwatch.GetElapsedTime(begin) < patience)
            {
                await Task.Delay(200, cancel).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Opens a snapshot's directory on a claim; links on the claim cannot lead outside it.</summary>
    internal static SafeFileHandle OpenSnapshot(SafeFileHandle claim, string directory)
    {
        try
        {
            return OpenInRoot.Open(claim, directory, directory: true);
        }
        catch (LinuxException e)
        {
            throw new TaskFailure(Reasons.SnapshotNotFound, $"the claim has no snapshot {directory}: {e.Message}");
        }
    }

    private static VirtualMachineTarget Target(SnapshotTask task) =>
        task.Spec.Target ?? throw new TaskFailure(Reasons.BadTask, "the task names no target");
}
