using Bgsnap.Crds.Client;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.KubeVirt;

namespace Bgsnap.Operator.Snapshots;

/// <summary>The VM that a snapshot's source names.</summary>
/// <param name="PodName">The VM's pod.</param>
/// <param name="PodUID">Its uid.</param>
/// <param name="NodeName">Its node.</param>
/// <param name="Container">Container with QEMU.</param>
/// <param name="QmpSocket">Path of the socket in it; null: QEMU is reached through the libvirt of <see cref="Launcher"/>.</param>
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
    /// <summary>The launcher pod of a KubeVirt VM; null: not a KubeVirt VM.</summary>
    public LauncherPod? Launcher { get; init; }

    /// <summary>Describes the VM to an agent: where it runs, and how to reach its QEMU.</summary>
    /// <param name="name">The VM's name.</param>
    /// <param name="objects">The VM's Kubernetes objects, for a capture to store; null: none.</param>
    public VirtualMachineTarget ToTarget(string name, string? objects = null) =>
        new()
        {
            PodName = PodName,
            PodUID = PodUID,
            Container = Container,
            QmpSocket = QmpSocket,
            LibvirtDomain = Launcher?.Domain,
            Uuid = Launcher?.Uuid,
            GuestAgentSocket = GuestAgentSocket,
            Objects = objects,
            Name = name,
        };

    /// <summary>Reads a pod as a VM.</summary>
    /// <param name="pod">The pod.</param>
    /// <param name="again">What the user has to create once the pod is fixed, for messages.</param>
    /// <exception cref="Waiting">The pod does not run yet.</exception>
    /// <exception cref="Hopeless">The pod is not a VM that can be captured.</exception>
    public static SourceVm Of(PodSummary pod, string again = "another snapshot")
    {
        string name = pod.Metadata.Name;
        if (pod.Metadata.Annotations?.TryGetValue(Names.QmpSocketAnnotation, out string? socket) != true || string.IsNullOrEmpty(socket))
            throw new Hopeless(
                "NotAVirtualMachine",
                $"pod {name} has no annotation {Names.QmpSocketAnnotation}: set it to the path of QEMU's QMP socket in the "
                    + $"container, then create {again}"
            );
        if (!socket.StartsWith('/'))
            throw new Hopeless(
                "NotAVirtualMachine",
                $"pod {name}: annotation {Names.QmpSocketAnnotation} must be an absolute path in the container, not '{socket}'"
            );
        _ = pod.Metadata.Annotations.TryGetValue(Names.GuestAgentSocketAnnotation, out string? agent);
        if (agent is not null && !agent.StartsWith('/'))
            throw new Hopeless(
                "NotAVirtualMachine",
                $"pod {name}: annotation {Names.GuestAgentSocketAnnotation} must be an absolute path in the container, not "
                    + $"'{agent}'; without a guest agent leave it out"
            );
        if (pod.Status?.Phase is "Succeeded" or "Failed")
            throw new Hopeless("SourceEnded", $"pod {name} has ended ({pod.Status.Phase}): start the virtual machine, then create {again}");
        if (pod.Metadata.DeletionTimestamp is not null)
            throw new Hopeless("SourceEnded", $"pod {name} is being deleted");
        string container = ContainerOf(pod, again);
        if (pod.Spec?.NodeName is not { Length: > 0 } node || pod.RunningContainerId(container) is null)
            throw new Waiting("SourceNotRunning", $"container {container} of pod {name} does not run yet");
        return new SourceVm(name, pod.Metadata.Uid, node, container, socket, agent);
    }

    private static string ContainerOf(PodSummary pod, string again)
    {
        List<ContainerSummary> containers = pod.Spec?.Containers ?? [];
        if (pod.Metadata.Annotations?.TryGetValue(Names.ContainerAnnotation, out string? named) == true)
        {
            return containers.Any(c => c.Name == named)
                ? named
                : throw new Hopeless(
                    "NotAVirtualMachine",
                    $"pod {pod.Metadata.Name} has no container {named}, which its annotation {Names.ContainerAnnotation} names"
                );
        }
        return containers.Count == 1
            ? containers[0].Name
            : throw new Hopeless(
                "NotAVirtualMachine",
                $"pod {pod.Metadata.Name} has {containers.Count} containers: name the one with QEMU in its annotation "
                    + $"{Names.ContainerAnnotation}, then create {again}"
            );
    }
}

/// <summary>Something is missing that may still appear; the snapshot or restore waits until its deadline.</summary>
internal sealed class Waiting(string reason, string message) : Exception(message)
{
    /// <summary>The condition's reason, in CamelCase.</summary>
    public string Reason => reason;

    /// <summary>The phase while waiting.</summary>
    public string Phase { get; init; } = SnapshotPhase.Pending;

    /// <summary>The time until the next reconcile.</summary>
    public TimeSpan Again { get; init; } = TimeSpan.FromSeconds(5);
}

/// <summary>The snapshot or restore can never become Ready.</summary>
internal sealed class Hopeless(string reason, string message) : Exception(message)
{
    /// <summary>The condition's reason, in CamelCase.</summary>
    public string Reason => reason;
}
