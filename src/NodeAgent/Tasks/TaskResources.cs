using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Linux;
using Bgsnap.Qemu.Libvirt;
using Bgsnap.Qemu.Vm;
using Bgsnap.Vocabulary;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>
/// Opens the places on this node that a task names. Tasks name pods and containers. The agent asks the API server what those are and checks
/// the answer against the cgroup of the process that it uses, so that no task reaches another pod's files.
/// </summary>
internal sealed class TaskResources(IApiClient api, string node, string proc = ContainerProcesses.Proc)
{
    /// <summary>Opens the root of a container.</summary>
    /// <returns>The root, and the container's id.</returns>
    /// <exception cref="TaskFailure">The pod has another uid, is on another node, or does not run.</exception>
    internal async Task<(SafeFileHandle Root, string ContainerId)> OpenContainer(
        string ns,
        PodTarget target,
        string reason,
        CancellationToken stop
    )
    {
        string id = await RunningContainer(ns, target, reason, stop).ConfigureAwait(false);
        foreach (ProcessEntry process in ContainerProcesses.Of(id, target.PodUID, proc))
        {
            try
            {
                return (OpenInRoot.RootOf(process), id);
            }
            catch (LinuxException)
            {
                // The process has ended; try the next one.
            }
        }
        throw new TaskFailure(
            reason,
            $"no process of container {target.Container} of pod {target.PodName} runs on node {node}, as far as the agent sees: it "
                + "needs the "
                + "host's pid namespace (hostPID)"
        );
    }

    /// <summary>The id of a container that runs on this node.</summary>
    private async Task<string> RunningContainer(string ns, PodTarget target, string reason, CancellationToken stop)
    {
        PodSummary pod;
        try
        {
            pod = await api.Get(Resources.Pods, ns, target.PodName, stop).ConfigureAwait(false);
        }
        catch (ApiException e) when (e.IsNotFound)
        {
            throw new TaskFailure(reason, $"pod {target.PodName} is gone");
        }
        if (pod.Metadata.Uid != target.PodUID)
            throw new TaskFailure(reason, $"pod {target.PodName} was replaced by another of its name");
        if (pod.Spec?.NodeName != node)
            throw new TaskFailure(reason, $"pod {target.PodName} does not run on node {node}");
        return pod.RunningContainerId(target.Container)
            ?? throw new TaskFailure(reason, $"container {target.Container} of pod {target.PodName} does not run");
    }

    /// <summary>Finds the way to a VM's monitor.</summary>
    /// <param name="ns">Namespace of the pod.</param>
    /// <param name="vm">The pod, and how to reach its QEMU.</param>
    /// <param name="stop">Ends the wait.</param>
    /// <param name="reason">The failure's reason if the pod is not there.</param>
    /// <param name="noQemu">The failure's reason if the pod does not have that QEMU.</param>
    /// <exception cref="TaskFailure">The pod or its QEMU is not there.</exception>
    internal async Task<TaskMonitor> OpenMonitor(
        string ns,
        VirtualMachineTarget vm,
        CancellationToken stop,
        string reason = Reasons.SourceEnded,
        string noQemu = Reasons.SourceEnded
    )
    {
        if (vm.LibvirtDomain is not { } domain)
        {
            (SafeFileHandle socket, string container) = await OpenSocket(ns, vm, reason, stop).ConfigureAwait(false);
            return new TaskMonitor(container) { Socket = socket };
        }
        string id = await RunningContainer(ns, vm, reason, stop).ConfigureAwait(false);
        int[] found =
        [
            .. ContainerProcesses
                .Of(id, vm.PodUID, proc)
                .Where(p => DomainProcess.IsOf(LibvirtProcess.CommandLine(p), domain, vm.Uuid))
                .Select(p => p.Pid),
        ];
        return found switch
        {
            [int pid] => new TaskMonitor(id) { Pid = pid },
            [] => throw new TaskFailure(
                noQemu,
                $"no QEMU of domain {domain}{(vm.Uuid is { } uuid ? $" ({uuid})" : "")} runs in container {vm.Container} of pod "
                    + $"{vm.PodName} on node {node}: the virtual machine has ended, or the agent lacks the host's pid namespace (hostPID)"
            ),
            _ => throw new TaskFailure(
                Reasons.SourceAmbiguous,
                $"{found.Length} processes of container {vm.Container} of pod {vm.PodName} claim to be domain {domain}: "
                    + $"{string.Join(", ", found)}"
            ),
        };
    }

    /// <summary>Opens the claim through its carrier.</summary>
    internal async Task<SafeFileHandle> OpenClaim(string ns, PodTarget carrier, CancellationToken stop)
    {
        (SafeFileHandle root, _) = await OpenContainer(ns, carrier, Reasons.CarrierLost, stop).ConfigureAwait(false);
        using (root)
        {
            try
            {
                return OpenInRoot.Open(root, Names.CarrierMountPath, directory: true);
            }
            catch (LinuxException e)
            {
                throw new TaskFailure(Reasons.CarrierLost, $"the claim cannot be opened through pod {carrier.PodName}: {e.Message}");
            }
        }
    }

    /// <summary>Opens QEMU's socket.</summary>
    /// <param name="ns">Namespace of the pod.</param>
    /// <param name="vm">The pod and its socket.</param>
    /// <param name="reason">The failure's reason if the pod is not there.</param>
    /// <param name="stop">Ends the wait.</param>
    /// <returns>The open socket, and the id of its container.</returns>
    internal async Task<(SafeFileHandle Socket, string ContainerId)> OpenSocket(
        string ns,
        VirtualMachineTarget vm,
        string reason,
        CancellationToken stop
    )
    {
        (SafeFileHandle root, string id) = await OpenContainer(ns, vm, reason, stop).ConfigureAwait(false);
        using (root)
        {
            try
            {
                return (
                    OpenInRoot.Open(
                        root,
                        vm.QmpSocket ?? throw new TaskFailure(Reasons.BadTask, "the task names no QMP socket"),
                        directory: false
                    ),
                    id
                );
            }
            catch (LinuxException e)
            {
                throw new TaskFailure(
                    Reasons.SocketNotFound,
                    $"pod {vm.PodName} has no socket {vm.QmpSocket} in container {vm.Container} ({e.Message}): correct its "
                        + $"annotation {Names.QmpSocketAnnotation}, or start QEMU with -qmp unix:{vm.QmpSocket},server=on,wait=off"
                );
            }
        }
    }

    /// <summary>
    /// Opens the guest agent's socket. Null: the VM has no guest agent, its socket is missing and not required, or libvirt owns it.
    /// </summary>
    /// <exception cref="TaskFailure">The socket is missing but required.</exception>
    internal async Task<SafeFileHandle?> OpenGuestAgent(string ns, VirtualMachineTarget vm, bool required, CancellationToken stop)
    {
        if (vm.GuestAgentSocket is not { } path)
        {
            return !required || vm.LibvirtDomain is not null
                ? null
                : throw new TaskFailure(
                    Reasons.NoGuestAgent,
                    $"spec.capture.quiesce is Required, and pod {vm.PodName} has no annotation {Names.GuestAgentSocketAnnotation}: "
                        + "set it to the path of the guest agent's socket in the container"
                );
        }
        (SafeFileHandle root, _) = await OpenContainer(ns, vm, Reasons.SourceEnded, stop).ConfigureAwait(false);
        using (root)
        {
            try
            {
                return OpenInRoot.Open(root, path, directory: false);
            }
            catch (LinuxException e)
            {
                return !required
                    ? null
                    : throw new TaskFailure(
                        Reasons.NoGuestAgent,
                        $"spec.capture.quiesce is Required, and pod {vm.PodName} has no socket {path} in container {vm.Container} "
                            + $"({e.Message}): correct its annotation {Names.GuestAgentSocketAnnotation}"
                    );
            }
        }
    }
}
