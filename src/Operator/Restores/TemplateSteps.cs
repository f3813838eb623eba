using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;

namespace Bgsnap.Operator.Restores;

/// <summary>Creates the VM of a template in steps: claims, their content, then its pod. QEMU never sees a half-written disk.</summary>
internal sealed class TemplateSteps(RestoreStore store, RestoreNotes notes, DiskSteps disks, NodeQueue queue, TimeProvider clock)
{
    /// <summary>Returns the VM once its QEMU waits.</summary>
    /// <exception cref="NotReadyException">A step is not finished.</exception>
    /// <exception cref="TerminalException">The VM cannot be created.</exception>
    public async Task<SourceVm> MakeVm(
        ObjectKey key,
        VMBackgroundRestore restore,
        RestoreStatus status,
        VMBackgroundSnapshot snapshot,
        CancellationToken stop
    )
    {
        // a. Match template and snapshot. We create nothing for a restore that cannot succeed.
        RestorePlan plan = TemplatePlan.Of(restore, snapshot);
        status.PodName = RestoreNaming.Pod(restore);
        PodSummary? pod = await store.FindPod(restore, stop).ConfigureAwait(false);
        if (pod is not null && !RestoreNaming.IsOf(restore, pod.Metadata))
            throw new TerminalException(
                Reasons.PodExists,
                $"pod {status.PodName} already exists and does not belong to this restore: delete it, or give the template's pod another "
                    + "name, then create another restore"
            );
        if (pod is null && status.PodUID is not null)
            throw new TerminalException(
                Reasons.PodGone,
                $"pod {status.PodName}, which was created for this restore, is gone: create another restore"
            );

        if (pod is null)
        {
            // b. Create the claims.
            await disks.MakeClaims(restore, status, plan, stop).ConfigureAwait(false);

            // c. Fill them.
            await disks.Write(key, restore, status, snapshot, plan, stop).ConfigureAwait(false);

            // d. Remove the writer, so that the VM can use its claims and resources.
            if (!await store.RemoveCarrier(restore, TaskAction.RestoreDisks, stop).ConfigureAwait(false))
                throw Starting(
                    Reasons.PodStarting,
                    $"waiting for the pod that wrote the disks to terminate, then starting pod {status.PodName}"
                );
            RestoreState.Reconciling(
                restore,
                status,
                RestorePhase.Starting,
                Reasons.PodStarting,
                $"starting pod {status.PodName}",
                clock.GetUtcNow()
            );
            await notes.Save(restore, status, stop).ConfigureAwait(false);
            pod = await store
                .MakePod(RestorePods.Vm(restore, plan, RestoreState.HasDisks(status) ? status.NodeName : null), stop)
                .ConfigureAwait(false);
            if (!RestoreNaming.IsOf(restore, pod.Metadata))
                throw Starting(Reasons.PodStarting, $"another pod {status.PodName} exists");
        }

        // e. Wait for its QEMU.
        status.PodUID ??= pod.Metadata.Uid;
        if (status.PodUID != pod.Metadata.Uid)
            throw new TerminalException(
                Reasons.PodGone,
                $"pod {status.PodName}, which was created for this restore, is gone, and another pod has its name now: create "
                    + "another restore"
            );
        return SourceVm.OfRunning(pod, "another restore") ?? throw WhyNotRunning(queue, key, pod);
    }

    /// <summary>Why a VM's pod does not run. A pod that cannot start must not block other restores of its node.</summary>
    internal static NotReadyException WhyNotRunning(NodeQueue queue, ObjectKey key, PodSummary pod)
    {
        PodConditionSummary? scheduled = pod.Status?.Conditions?.FirstOrDefault(c => c.Type == "PodScheduled");
        ContainerStateDetail? waiting = pod
            .Status?.ContainerStatuses?.Select(c => c.State?.Waiting)
            .FirstOrDefault(w => w?.Reason is not (null or "ContainerCreating" or "PodInitializing"));
        string name = pod.Metadata.Name;
        if (scheduled is not { Status: "False", Message.Length: > 0 } && waiting is null)
            return Starting(Reasons.PodStarting, $"starting pod {name}");
        queue.Leave(key);
        return waiting is null
            ? Starting(Reasons.PodUnschedulable, $"pod {name} cannot be scheduled: {scheduled!.Message}")
            : Starting(Reasons.PodNotStarting, $"pod {name} does not start: {waiting.Reason}: {waiting.Message}");
    }

    private static NotReadyException Starting(string reason, string message) =>
        new(reason, message) { Phase = RestorePhase.Starting, Again = TimeSpan.FromSeconds(15) };
}
