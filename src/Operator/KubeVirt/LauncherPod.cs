using Bgsnap.Crds.Client;
using Bgsnap.Operator.Snapshots;

namespace Bgsnap.Operator.KubeVirt;

/// <summary>The pod that a VirtualMachineInstance runs in now, and the claims that its disks are on. No source names one yet: docs/kubevirt.md.</summary>
/// <param name="PodName">The launcher pod.</param>
/// <param name="PodUID">Its uid.</param>
/// <param name="NodeName">Its node.</param>
/// <param name="Claims">Claims by the name of their volume.</param>
internal sealed record LauncherPod(string PodName, string PodUID, string NodeName, IReadOnlyDictionary<string, string> Claims)
{
    /// <summary>The container with libvirt and QEMU.</summary>
    public const string Container = "compute";

    /// <summary>Label of all launcher pods, and its value.</summary>
    public const string Label = "kubevirt.io", LabelValue = "virt-launcher";

    /// <summary>Reads an instance and the launcher pods of its namespace.</summary>
    /// <exception cref="Waiting">It may come to run where it can be captured.</exception>
    /// <exception cref="Hopeless">It cannot be captured as it is.</exception>
    public static LauncherPod Of(VirtualMachineInstance vmi, IEnumerable<PodSummary> pods)
    {
        string name = vmi.Metadata.Name;
        RefuseEnded(vmi, name);
        RefuseDevices(vmi, name);
        VirtualMachineInstanceStatus? status = vmi.Status;
        if (status?.Phase != "Running" || status.NodeName is not { Length: > 0 } node)
            throw new Waiting("SourceNotRunning", $"VirtualMachineInstance {name} does not run yet ({status?.Phase ?? "no phase"})");
        // Passthrough to QEMU works while it migrates too: nobody but us would refuse.
        if (status.MigrationState is { Completed: not true, Failed: not true } migration)
            throw new Waiting("Migrating", $"VirtualMachineInstance {name} is being migrated to node {migration.TargetNode ?? "(not chosen yet)"}: captured when that has ended");
        PodSummary[] here = [.. pods.Where(p => IsActive(p, status, node))];
        if (here is not [PodSummary pod])
            throw new Waiting("SourceNotRunning", $"VirtualMachineInstance {name} has {here.Length} launcher pods that run on node {node}, and one is expected");
        return new LauncherPod(pod.Metadata.Name, pod.Metadata.Uid, node, ClaimsOf(vmi));
    }

    private static void RefuseEnded(VirtualMachineInstance vmi, string name)
    {
        if (vmi.Metadata.DeletionTimestamp is not null)
            throw new Hopeless("SourceEnded", $"VirtualMachineInstance {name} is being deleted");
        if (vmi.Status?.Phase is "Succeeded" or "Failed")
            throw new Hopeless("SourceEnded", $"VirtualMachineInstance {name} has ended ({vmi.Status.Phase}): start the virtual machine, then create another snapshot");
    }

    private static void RefuseDevices(VirtualMachineInstance vmi, string name)
    {
        if (vmi.Spec.Domain.Devices is not { } devices) return;
        string? blocker =
            devices.Gpus is [var gpu, ..] ? $"gpu {gpu.Name} is passed through by VFIO, whose DMA no protection sees"
            : devices.HostDevices is [var device, ..] ? $"host device {device.Name} is passed through by VFIO, whose DMA no protection sees"
            : devices.Interfaces?.FirstOrDefault(i => i.Sriov is not null) is { } function ? $"interface {function.Name} is SR-IOV's, passed through by VFIO, whose DMA no protection sees"
            : devices.Interfaces?.FirstOrDefault(i => i.Binding?.Name.Contains("vhostuser", StringComparison.OrdinalIgnoreCase) == true) is { } user ? $"interface {user.Name} is vhost-user's, another process that writes to the guest's memory"
            : devices.Filesystems?.FirstOrDefault(f => f.Virtiofs is not null) is { } files ? $"filesystem {files.Name} is virtiofs', another process that writes to the guest's memory"
            : null;
        if (blocker is not null)
            throw new Hopeless("DeviceUnsupported", $"VirtualMachineInstance {name} cannot be captured: {blocker}; remove it from the virtual machine, then create another snapshot");
    }

    private static bool IsActive(PodSummary pod, VirtualMachineInstanceStatus status, string node) =>
        pod.Metadata.Labels?.TryGetValue(Label, out string? label) == true && label == LabelValue
        && status.ActivePods?.TryGetValue(pod.Metadata.Uid, out string? on) == true && on == node
        && pod.Spec?.NodeName == node && pod.Metadata.DeletionTimestamp is null && pod.RunningContainerId(Container) is not null;

    private static Dictionary<string, string> ClaimsOf(VirtualMachineInstance vmi)
    {
        Dictionary<string, string> claims = [];
        foreach (VmiVolume volume in vmi.Spec.Volumes ?? [])
        {
            if ((volume.PersistentVolumeClaim?.ClaimName ?? volume.DataVolume?.Name) is { } claim)
                claims[volume.Name] = claim;
        }
        return claims;
    }
}
