using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.KubeVirt;
using Bgsnap.Operator.KubeVirt.Restoring;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;

namespace Bgsnap.Operator.Restores;

/// <summary>
/// Creates a KubeVirt VM in steps: reads what the snapshot stores of the captured VM, then creates the claims, their content and the
/// VirtualMachine. KubeVirt creates the instance and its pod, in which our hook sidecar makes QEMU wait for the snapshot.
/// </summary>
internal sealed class MachineSteps(
    RestoreStore store,
    MachineStore machines,
    RestoreNotes notes,
    RestoreFollow follow,
    DiskSteps disks,
    NodeQueue queue,
    OperatorOptions options,
    TimeProvider clock
)
{
    /// <summary>Returns the VM once its launcher runs.</summary>
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
        string name = restore.Spec.Target.VirtualMachine!.Name;
        RawObject? vm = await machines.Find(restore, stop).ConfigureAwait(false);
        bool isOurs = vm is not null && RestoreNaming.IsOf(restore, vm.Metadata);
        if (vm is not null && !isOurs && !PutBack.IsWanted(restore))
            throw new TerminalException(
                Reasons.VirtualMachineExists,
                $"VirtualMachine {name} already exists and does not belong to this restore: set "
                    + "spec.target.virtualMachine.whenExists to restore into it, or name another VirtualMachine, then create "
                    + "another restore"
            );
        if (status.VirtualMachineUID is { } uid && (uid != vm?.Metadata.Uid || !isOurs))
            throw new TerminalException(
                Reasons.VirtualMachineGone,
                $"VirtualMachine {name}, which was created for this restore, is gone: create another restore"
            );
        if (vm is null || !isOurs)
        {
            // a. Plan the VM. We create nothing for a restore that cannot succeed.
            CapturedMachine kept = CapturedMachine.Read(await Describe(key, restore, status, snapshot, stop).ConfigureAwait(false));
            MachinePlan plan = MachinePlan.Of(
                restore,
                snapshot,
                kept,
                await machines.Models(restore, kept, stop).ConfigureAwait(false),
                options
            );
            await machines.ThrowIfMacInUse(restore, plan.MacAddresses, stop).ConfigureAwait(false);

            // b. Create and fill the claims.
            await disks.MakeClaims(restore, status, plan.Disks, stop).ConfigureAwait(false);
            await disks.Write(key, restore, status, snapshot, plan.Disks, stop).ConfigureAwait(false);

            // c. Remove our helper pods, so that the VM can use their claims and resources.
            if (
                !await store.RemoveCarrier(restore, TaskAction.RestoreDisks, stop).ConfigureAwait(false)
                | !await store.RemoveCarrier(restore, TaskAction.Describe, stop).ConfigureAwait(false)
            )
                throw Starting($"waiting for the pods that wrote the disks of VirtualMachine {name} to terminate");
            vm = vm is null
                ? await Make(restore, status, plan.Vm, stop).ConfigureAwait(false)
                : await TakeOver(restore, status, vm, plan.Vm, stop).ConfigureAwait(false);
        }
        status.VirtualMachineUID ??= vm.Metadata.Uid;

        // d. Wait for the instance and its launcher.
        VirtualMachineInstance vmi = await FindInstance(restore, vm, stop).ConfigureAwait(false);
        await machines.RemoveHook(vm, stop).ConfigureAwait(false);
        PodSummary pod = await machines.FindLauncher(vmi, stop).ConfigureAwait(false)
            ?? throw Starting($"waiting for KubeVirt to create the launcher pod of VirtualMachineInstance {name}");
        if (pod.Spec?.NodeName is not { Length: > 0 } || pod.RunningContainerId(LauncherPod.Container) is null)
            throw TemplateSteps.WhyNotRunning(queue, key, pod);
        return LauncherPod.WaitingFor(vmi, pod).ToSource();
    }

    /// <summary>Call this once the guest runs: the VM gets its own runStrategy back and belongs to the user.</summary>
    public Task Settle(VMBackgroundRestore restore, CancellationToken stop) => machines.Settle(restore, stop);

    private async Task<MachineDescription> Describe(
        ObjectKey key,
        VMBackgroundRestore restore,
        RestoreStatus status,
        VMBackgroundSnapshot snapshot,
        CancellationToken stop
    )
    {
        SnapshotTask? task = await store.FindTask(restore, TaskAction.Describe, stop).ConfigureAwait(false);
        if (task is null)
        {
            string claim = snapshot.Status!.ClaimName!;
            PodSummary reader = await store
                .FindOrMakeCarrier(
                    restore,
                    TaskAction.Describe,
                    () => RestorePods.Carrier(restore, snapshot, TaskAction.Describe, null, options),
                    stop
                )
                .ConfigureAwait(false);
            await RestoreCarrier.Running(store, queue, key, reader, claim, null, clock, stop).ConfigureAwait(false);
            status.NodeName = reader.Spec!.NodeName!;
            RestoreState.Reconciling(
                restore,
                status,
                RestorePhase.Preparing,
                Reasons.MachineAsked,
                AgentMessages.WaitingFor(status.NodeName),
                clock.GetUtcNow()
            );
            await notes.Save(restore, status, stop).ConfigureAwait(false);
            await store.MakeTask(RestoreTasks.Describe(restore, snapshot, reader), stop).ConfigureAwait(false);
            throw new NotReadyException(Reasons.MachineAsked, AgentMessages.WaitingFor(status.NodeName))
            {
                Phase = RestorePhase.Preparing,
                Again = options.AgentSilence,
            };
        }
        SnapshotTaskStatus end = await follow
            .Succeeded(restore, status, task, RestorePhase.Preparing, Reasons.MachineAsked, "machine", stop)
            .ConfigureAwait(false);
        return end.Machine
            ?? throw new TerminalException(
                Reasons.AgentTooOld,
                $"the agent on node {task.Spec.NodeName} is older than the operator: upgrade it, then create another restore"
            );
    }

    private async Task<RawObject> Make(VMBackgroundRestore restore, RestoreStatus status, RawObject captured, CancellationToken stop)
    {
        await Note(restore, status, Reasons.VirtualMachineStarting, $"creating VirtualMachine {captured.Metadata.Name}", stop)
            .ConfigureAwait(false);
        RawObject vm = await machines.Make(captured, stop).ConfigureAwait(false);
        return RestoreNaming.IsOf(restore, vm.Metadata) ? vm : throw Starting($"another VirtualMachine {vm.Metadata.Name} exists");
    }

    private async Task<RawObject> TakeOver(
        VMBackgroundRestore restore,
        RestoreStatus status,
        RawObject vm,
        RawObject captured,
        CancellationToken stop
    )
    {
        string name = vm.Metadata.Name;
        if (vm.Metadata.DeletionTimestamp is not null)
            throw Starting($"waiting for the deletion of VirtualMachine {name}, which is then recreated");
        PutBack.ThrowIfOthers(vm, restore);
        VirtualMachineInstance? vmi = await machines.FindInstance(restore, stop).ConfigureAwait(false);
        bool runs = PutBack.Runs(vm, vmi);
        if (runs && restore.Spec.Target.VirtualMachine!.WhenExists != ExistingMachine.StopAndPutBack)
            throw new NotReadyException(
                Reasons.VirtualMachineRunning,
                $"VirtualMachine {name} is running: stop it (virtctl stop {name}) so that this restore can continue, or set "
                    + "spec.target.virtualMachine.whenExists to StopAndPutBack in another restore"
            )
            {
                Again = TimeSpan.FromSeconds(5),
            };
        // An instance that has ended by itself is in the way too; KubeVirt removes it once the VM is halted.
        if (runs || vmi is not null)
        {
            string stopping = $"stopping VirtualMachine {name} before restoring it";
            await Note(restore, status, Reasons.VirtualMachineStopping, stopping, stop).ConfigureAwait(false);
            await machines.Halt(restore, vm, stop).ConfigureAwait(false);
            throw new NotReadyException(Reasons.VirtualMachineStopping, stopping)
            {
                Phase = RestorePhase.Starting,
                Again = TimeSpan.FromSeconds(2),
            };
        }
        await Note(
                restore,
                status,
                Reasons.VirtualMachineStarting,
                $"replacing the spec of VirtualMachine {name} with the captured one; its former claims are kept",
                stop
            )
            .ConfigureAwait(false);
        return await machines.TakeOver(restore, vm, captured, stop).ConfigureAwait(false);
    }

    // Save the status before acting: if our copy is stale, the API server rejects the patch and we do nothing.
    private async Task Note(VMBackgroundRestore restore, RestoreStatus status, string reason, string message, CancellationToken stop)
    {
        RestoreState.Reconciling(restore, status, RestorePhase.Starting, reason, message, clock.GetUtcNow());
        await notes.Save(restore, status, stop).ConfigureAwait(false);
    }

    private async Task<VirtualMachineInstance> FindInstance(VMBackgroundRestore restore, RawObject vm, CancellationToken stop)
    {
        string name = vm.Metadata.Name;
        VirtualMachineInstance? vmi = await machines.FindInstance(restore, stop).ConfigureAwait(false);
        // An instance without our label was created before we changed the VM, and is ending.
        if (
            vmi is null
            || !RestoreNaming.IsOf(restore, vmi.Metadata)
            || vmi.Metadata.OwnerReferences?.Any(o => o.Uid == vm.Metadata.Uid) != true
        )
        {
            string? why = MachineStore.Failure(vm);
            if (why is not null && SidecarGate.IsOff(why) && PutBack.Before(vm, restore) is not null)
                throw SidecarGate.Fail(why);
            if (why is not null && SidecarGate.IsOff(why))
                throw SidecarGate.Wait(why);
            throw why is null
                ? Starting($"waiting for KubeVirt to start VirtualMachine {name}")
                : new NotReadyException(Reasons.VirtualMachineNotStarting, $"KubeVirt does not start VirtualMachine {name}: {why}")
                {
                    Phase = RestorePhase.Starting,
                    Again = TimeSpan.FromSeconds(15),
                };
        }
        if (vmi.Metadata.DeletionTimestamp is not null || vmi.Status?.Phase is "Succeeded" or "Failed")
            throw new TerminalException(
                Reasons.VirtualMachineEnded,
                $"VirtualMachineInstance {name}, which was created for this restore, has ended ({vmi.Status?.Phase ?? "deleted"}) "
                    + "before its guest ran: see its events, then create another restore"
            );
        return vmi;
    }

    // We poll KubeVirt's objects instead of watching them, because KubeVirt may not be installed.
    private static NotReadyException Starting(string message) =>
        new(Reasons.VirtualMachineStarting, message) { Phase = RestorePhase.Starting, Again = TimeSpan.FromSeconds(2) };
}
