using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;
using k8s.Models;

namespace Bgsnap.Operator.Snapshots;

/// <summary>Builds the claim that a snapshot's claimTemplate describes.</summary>
internal static class ClaimBuilder
{
    private const decimal Mi = 1024 * 1024,
        Gi = 1024 * Mi;

    /// <summary>Builds the claim. With deletionPolicy Delete the snapshot owns it; with Retain it has no owner and stays.</summary>
    public static V1PersistentVolumeClaim Build(VMBackgroundSnapshot snapshot, string size)
    {
        ClaimTemplate template = snapshot.Spec.Target.ClaimTemplate!;
        V1ObjectMeta metadata = SnapshotNaming.Made(snapshot, SnapshotNaming.Claim(snapshot));
        if (snapshot.Spec.DeletionPolicy == "Retain")
            metadata.OwnerReferences = null;
        return new V1PersistentVolumeClaim
        {
            ApiVersion = "v1",
            Kind = "PersistentVolumeClaim",
            Metadata = metadata,
            Spec = new V1PersistentVolumeClaimSpec
            {
                AccessModes = template.AccessModes is { Count: > 0 } modes ? modes : ["ReadWriteOnce"],
                StorageClassName = template.StorageClassName,
                Resources = new V1VolumeResourceRequirements
                {
                    Requests = new Dictionary<string, ResourceQuantity> { ["storage"] = new(size) },
                },
            },
        };
    }

    /// <summary>The VM's memory, estimated by its container's memory limit, or else its request.</summary>
    /// <exception cref="TerminalException">The container has neither.</exception>
    public static string MemoryOf(PodSummary pod, string container)
    {
        ContainerResources? resources = pod.Spec?.Containers?.FirstOrDefault(c => c.Name == container)?.Resources;
        return resources?.Limits?.GetValueOrDefault("memory")
            ?? resources?.Requests?.GetValueOrDefault("memory")
            ?? throw new TerminalException(
                Reasons.SizeUnknown,
                $"container {container} of pod {pod.Metadata.Name} has no memory limit, so the size of the claim is unknown: set "
                    + "spec.target.claimTemplate.size"
            );
    }

    /// <summary>The size of a claim that holds the VM's RAM and its disks, with some room.</summary>
    /// <param name="memory">Its RAM at most.</param>
    /// <param name="disks">Sizes of its disks.</param>
    public static string Size(string memory, IEnumerable<string> disks)
    {
        decimal bytes = new ResourceQuantity(memory).ToDecimal() + disks.Sum(d => new ResourceQuantity(d).ToDecimal());
        // 1 % for indexes and what a file system takes for itself, 64 Mi for device state and small files.
        bytes = (bytes * 1.01m) + (64 * Mi);
        return bytes <= Gi ? $"{Math.Ceiling(bytes / Mi)}Mi" : $"{Math.Ceiling(Math.Ceiling(bytes / Gi * 10) / 10 * 1024):0}Mi";
    }
}
