using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;

namespace Bgsnap.Operator.KubeVirt;

/// <summary>The launcher pod that a VirtualMachineInstance runs in now, and what is known of its machine.</summary>
/// <param name="PodName">The launcher pod.</param>
/// <param name="PodUID">Its uid.</param>
/// <param name="NodeName">Its node.</param>
/// <param name="Domain">Name of the libvirt domain in it.</param>
/// <param name="Uuid">The domain's UUID; null: the instance does not say.</param>
/// <param name="Memory">The guest's memory, as a Kubernetes quantity; null: the instance does not say.</param>
/// <param name="Claims">Claim names by volume name.</param>
/// <param name="OtherBytes">Total bytes of the disks that are not on a claim.</param>
internal sealed record LauncherPod(
    string PodName,
    string PodUID,
    string NodeName,
    string Domain,
    string? Uuid,
    string? Memory,
    IReadOnlyDictionary<string, string> Claims,
    long OtherBytes
)
{
    /// <summary>The container with libvirt and QEMU.</summary>
    public const string Container = "compute";

    /// <summary>The label of all launcher pods, and its value.</summary>
    public const string Label = "kubevirt.io",
        LabelValue = "virt-launcher";

    /// <summary>The label of an instance's launcher pods; its value is the instance's uid.</summary>
    public const string InstanceLabel = "kubevirt.io/created-by";

    /// <summary>Finds the pod that the instance runs in.</summary>
    /// <param name="vmi">The instance.</param>
    /// <param name="pods">The launcher pods of its namespace.</param>
    /// <param name="how">What the snapshot asks for.</param>
    /// <exception cref="NotReadyException">The VM cannot be captured now, but may be later.</exception>
    /// <exception cref="TerminalException">The VM cannot be captured as it is.</exception>
    public static LauncherPod Of(VirtualMachineInstance vmi, IEnumerable<PodSummary> pods, CaptureSpec? how = null)
    {
        string name = vmi.Metadata.Name;
        RefuseEnded(vmi, name);
        CaptureBlockers.Refuse(vmi, how);
        VirtualMachineInstanceStatus? status = vmi.Status;
        if (status?.Phase != "Running" || status.NodeName is not { Length: > 0 } node)
            throw new NotReadyException(
                Reasons.SourceNotRunning,
                $"VirtualMachineInstance {name} is not running yet ({status?.Phase ?? "no phase"})"
            );
        WaitWhileBusy(status, name, how);
        PodSummary[] here = [.. pods.Where(p => IsActive(p, status, node))];
        if (here is not [PodSummary pod])
            throw new NotReadyException(
                Reasons.SourceNotRunning,
                $"VirtualMachineInstance {name} has {here.Length} launcher pods running on node {node}; expected one"
            );
        Dictionary<string, string> claims = ClaimsOf(vmi);
        return new LauncherPod(
            pod.Metadata.Name,
            pod.Metadata.Uid,
            node,
            DomainOf(vmi),
            vmi.Spec.Domain.Firmware?.Uuid,
            status.Memory?.GuestCurrent ?? vmi.Spec.Domain.Memory?.Guest,
            claims,
            (status.VolumeStatus ?? []).Where(v => !claims.ContainsKey(v.Name)).Sum(v => v.Size ?? 0)
        );
    }

    /// <summary>A launcher whose QEMU will wait for a snapshot: so far only the names of its domain are known.</summary>
    public static LauncherPod WaitingFor(VirtualMachineInstance vmi, PodSummary pod) =>
        new(
            pod.Metadata.Name,
            pod.Metadata.Uid,
            pod.Spec!.NodeName!,
            DomainOf(vmi),
            vmi.Spec.Domain.Firmware?.Uuid,
            null,
            new Dictionary<string, string>(),
            0
        );

    /// <summary>Converts it to a snapshot's source.</summary>
    public SourceVm ToSource() =>
        new(PodName, PodUID, NodeName, Container, null, null)
        {
            Libvirt = new LibvirtMachine(Domain, Uuid, Memory, Claims.Values, OtherBytes),
        };

    // KubeVirt's naming scheme of domains.
    private static string DomainOf(VirtualMachineInstance vmi) => $"{vmi.Metadata.NamespaceProperty}_{vmi.Metadata.Name}";

    private static void RefuseEnded(VirtualMachineInstance vmi, string name)
    {
        if (vmi.Metadata.DeletionTimestamp is not null)
            throw new TerminalException(Reasons.SourceEnded, $"VirtualMachineInstance {name} is being deleted");
        if (vmi.Status?.Phase is "Succeeded" or "Failed")
            throw new TerminalException(
                Reasons.SourceEnded,
                $"VirtualMachineInstance {name} has ended ({vmi.Status.Phase}): start the virtual machine, then create another snapshot"
            );
    }

    private static void WaitWhileBusy(VirtualMachineInstanceStatus status, string name, CaptureSpec? how)
    {
        // libvirt's QEMU passthrough also works during a migration, so nothing but this check would refuse the capture.
        if (status.MigrationState is { Completed: not true, Failed: not true } migration)
            throw new NotReadyException(
                Reasons.Migrating,
                $"VirtualMachineInstance {name} is migrating to node {migration.TargetNode ?? "(not chosen yet)"}: the "
                    + "capture starts when the migration has ended"
            );
        if (status.VolumeStatus?.FirstOrDefault(v => v.MemoryDumpVolume is { StartTimestamp: not null, EndTimestamp: null }) is { } dump)
            throw new NotReadyException(
                Reasons.MemoryDump,
                $"the memory of VirtualMachineInstance {name} is being dumped to volume {dump.Name}: the capture starts when "
                    + "the dump has ended"
            );
        if (
            how?.WhenPaused != PausedGuest.Capture
            && status.Conditions?.FirstOrDefault(c => c is { Type: "Paused", Status: "True" }) is { } paused
        )
            throw new NotReadyException(
                Reasons.Paused,
                $"VirtualMachineInstance {name} is paused ({paused.Reason}): resume it (virtctl unpause vmi {name}), or set "
                    + "spec.capture.whenPaused to Capture in another snapshot to capture it as it is"
            );
    }

    private static bool IsActive(PodSummary pod, VirtualMachineInstanceStatus status, string node) =>
        pod.Metadata.Labels?.TryGetValue(Label, out string? label) == true
        && label == LabelValue
        && status.ActivePods?.TryGetValue(pod.Metadata.Uid, out string? on) == true
        && on == node
        && pod.Spec?.NodeName == node
        && pod.Metadata.DeletionTimestamp is null
        && pod.RunningContainerId(Container) is not null;

    // The spec lists hotplugged volumes along with the others.
    private static Dictionary<string, string> ClaimsOf(VirtualMachineInstance vmi)
    {
        Dictionary<string, string> claims = [];
        foreach (VmiVolume volume in vmi.Spec.Volumes ?? [])
        {
            if (
                (
                    volume.PersistentVolumeClaim?.ClaimName ?? volume.DataVolume?.Name ?? volume.Ephemeral?.PersistentVolumeClaim?.ClaimName
                ) is
                { } claim
            )
                claims[volume.Name] = claim;
        }
        return claims;
    }
}
