using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Vocabulary;

namespace Bgsnap.Operator.Shared;

/// <summary>The VM that a snapshot's source names.</summary>
/// <param name="PodName">The VM's pod.</param>
/// <param name="PodUID">Its uid.</param>
/// <param name="NodeName">Its node.</param>
/// <param name="Container">Container with QEMU.</param>
/// <param name="QmpSocket">Path of the socket in it; null: QEMU is reached through <see cref="Libvirt"/>.</param>
/// <param name="GuestAgentSocket">Path of the guest agent's socket in it, or null.</param>
internal sealed record SourceVm(
    string PodName,
    string PodUID,
    string NodeName,
    string Container,
    string? QmpSocket,
    string? GuestAgentSocket
)
{
    /// <summary>The machine of a KubeVirt VM; null: not a KubeVirt VM.</summary>
    public LibvirtMachine? Libvirt { get; init; }

    /// <summary>Describes the VM to an agent: where it runs, and how to reach its QEMU.</summary>
    /// <param name="name">The VM's name.</param>
    /// <param name="objects">The VM's Kubernetes objects, for a capture to store; null: it has none.</param>
    public VirtualMachineTarget ToTarget(string name, string? objects = null) =>
        new()
        {
            PodName = PodName,
            PodUID = PodUID,
            Container = Container,
            QmpSocket = QmpSocket,
            LibvirtDomain = Libvirt?.Domain,
            Uuid = Libvirt?.Uuid,
            GuestAgentSocket = GuestAgentSocket,
            Objects = objects,
            Name = name,
        };

    /// <summary>Reads a pod as a VM.</summary>
    /// <param name="pod">The pod.</param>
    /// <param name="again">What the user has to create once the pod is fixed, for messages.</param>
    /// <exception cref="NotReadyException">The pod does not run yet.</exception>
    /// <exception cref="TerminalException">The pod is not a VM that can be captured.</exception>
    public static SourceVm Of(PodSummary pod, string again = "another snapshot") =>
        OfRunning(pod, again)
        ?? throw new NotReadyException(
            Reasons.SourceNotRunning,
            $"container {ContainerOf(pod, again)} of pod {pod.Metadata.Name} is not running yet"
        );

    /// <summary>Reads a pod as a VM; null: the pod does not run yet.</summary>
    /// <param name="pod">The pod.</param>
    /// <param name="again">What the user has to create once the pod is fixed, for messages.</param>
    /// <exception cref="TerminalException">The pod is not a VM that can be captured.</exception>
    public static SourceVm? OfRunning(PodSummary pod, string again)
    {
        string name = pod.Metadata.Name;
        if (pod.Metadata.Annotations?.TryGetValue(Names.QmpSocketAnnotation, out string? socket) != true || string.IsNullOrEmpty(socket))
            throw new TerminalException(
                Reasons.NotAVirtualMachine,
                $"pod {name} has no annotation {Names.QmpSocketAnnotation}: set it to the path of QEMU's QMP socket in the "
                    + $"container, then create {again}"
            );
        if (!socket.StartsWith('/'))
            throw new TerminalException(
                Reasons.NotAVirtualMachine,
                $"pod {name}: annotation {Names.QmpSocketAnnotation} must be an absolute path in the container, not '{socket}'"
            );
        _ = pod.Metadata.Annotations.TryGetValue(Names.GuestAgentSocketAnnotation, out string? agent);
        if (agent is not null && !agent.StartsWith('/'))
            throw new TerminalException(
                Reasons.NotAVirtualMachine,
                $"pod {name}: annotation {Names.GuestAgentSocketAnnotation} must be an absolute path in the container, not "
                    + $"'{agent}'; without a guest agent, omit it"
            );
        if (pod.Status?.Phase is "Succeeded" or "Failed")
            throw new TerminalException(
                Reasons.SourceEnded,
                $"pod {name} has ended ({pod.Status.Phase}): start the virtual machine, then create {again}"
            );
        if (pod.Metadata.DeletionTimestamp is not null)
            throw new TerminalException(Reasons.SourceEnded, $"pod {name} is being deleted");
        string container = ContainerOf(pod, again);
        return pod.Spec?.NodeName is { Length: > 0 } node && pod.RunningContainerId(container) is not null
            ? new SourceVm(name, pod.Metadata.Uid, node, container, socket, agent)
            : null;
    }

    private static string ContainerOf(PodSummary pod, string again)
    {
        List<ContainerSummary> containers = pod.Spec?.Containers ?? [];
        if (pod.Metadata.Annotations?.TryGetValue(Names.ContainerAnnotation, out string? named) == true)
        {
            return containers.Any(c => c.Name == named)
                ? named
                : throw new TerminalException(
                    Reasons.NotAVirtualMachine,
                    $"pod {pod.Metadata.Name} has no container {named}, which its annotation {Names.ContainerAnnotation} names"
                );
        }
        return containers.Count == 1
            ? containers[0].Name
            : throw new TerminalException(
                Reasons.NotAVirtualMachine,
                $"pod {pod.Metadata.Name} has {containers.Count} containers: name the one with QEMU in its annotation "
                    + $"{Names.ContainerAnnotation}, then create {again}"
            );
    }
}
