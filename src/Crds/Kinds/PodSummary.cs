using k8s;
using k8s.Models;

namespace Bgsnap.Crds.Kinds;

/// <summary>What we read of a pod. Pods are written with the client library's own, complete type.</summary>
public sealed class PodSummary : IKubernetesObject<V1ObjectMeta>
{
    /// <inheritdoc/>
    public string ApiVersion { get; set; } = "v1";

    /// <inheritdoc/>
    public string Kind { get; set; } = "Pod";

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <summary>Where it runs and what in.</summary>
    public PodSpecSummary? Spec { get; set; }

    /// <summary>How it is.</summary>
    public PodStatusSummary? Status { get; set; }

    /// <summary>Id of a running container without the runtime's name, or null.</summary>
    public string? RunningContainerId(string container)
    {
        ContainerStatusSummary? status = Status?.ContainerStatuses?.FirstOrDefault(c => c.Name == container);
        if (status?.State?.Running is null || status.ContainerID is not { } id)
            return null;
        int scheme = id.IndexOf("://", StringComparison.Ordinal);
        return scheme < 0 ? id : id[(scheme + 3)..];
    }
}

/// <summary>Part of a pod's spec.</summary>
public sealed class PodSpecSummary
{
    /// <summary>Node it is bound to.</summary>
    public string? NodeName { get; set; }

    /// <summary>Its containers.</summary>
    public List<ContainerSummary>? Containers { get; set; }

    /// <summary>Its volumes.</summary>
    public List<VolumeSummary>? Volumes { get; set; }
}

/// <summary>Part of a container.</summary>
public sealed class ContainerSummary
{
    /// <summary>Its name.</summary>
    public string Name { get; set; } = "";

    /// <summary>Where its volumes are.</summary>
    public List<VolumeMountSummary>? VolumeMounts { get; set; }

    /// <summary>Where its block devices are.</summary>
    public List<VolumeDeviceSummary>? VolumeDevices { get; set; }

    /// <summary>What it may use.</summary>
    public ContainerResources? Resources { get; set; }
}

/// <summary>A volume in a container.</summary>
public sealed class VolumeMountSummary
{
    /// <summary>Name of the volume.</summary>
    public string Name { get; set; } = "";

    /// <summary>Where it is.</summary>
    public string MountPath { get; set; } = "";
}

/// <summary>A block device in a container.</summary>
public sealed class VolumeDeviceSummary
{
    /// <summary>Name of the volume.</summary>
    public string Name { get; set; } = "";

    /// <summary>Where it is.</summary>
    public string DevicePath { get; set; } = "";
}

/// <summary>What a container may use.</summary>
public sealed class ContainerResources
{
    /// <summary>Limits as quantities.</summary>
    public Dictionary<string, string>? Limits { get; set; }

    /// <summary>Requests as quantities.</summary>
    public Dictionary<string, string>? Requests { get; set; }
}

/// <summary>Part of a volume.</summary>
public sealed class VolumeSummary
{
    /// <summary>Its name in the pod.</summary>
    public string? Name { get; set; }

    /// <summary>The claim, if it is one.</summary>
    public ClaimVolume? PersistentVolumeClaim { get; set; }
}

/// <summary>A claim as a volume.</summary>
public sealed class ClaimVolume
{
    /// <summary>Its name.</summary>
    public string ClaimName { get; set; } = "";
}

/// <summary>Part of a pod's status.</summary>
public sealed class PodStatusSummary
{
    /// <summary>Pending, Running, Succeeded, Failed or Unknown.</summary>
    public string? Phase { get; set; }

    /// <summary>Why it is in this phase, in words; of evicted pods for example.</summary>
    public string? Message { get; set; }

    /// <summary>Its conditions.</summary>
    public List<PodConditionSummary>? Conditions { get; set; }

    /// <summary>How its containers are.</summary>
    public List<ContainerStatusSummary>? ContainerStatuses { get; set; }
}

/// <summary>A pod's condition.</summary>
public sealed class PodConditionSummary
{
    /// <summary>Its type.</summary>
    public string Type { get; set; } = "";

    /// <summary>True, False or Unknown.</summary>
    public string Status { get; set; } = "";

    /// <summary>One word.</summary>
    public string? Reason { get; set; }

    /// <summary>In words.</summary>
    public string? Message { get; set; }
}

/// <summary>How a container is.</summary>
public sealed class ContainerStatusSummary
{
    /// <summary>Its name.</summary>
    public string Name { get; set; } = "";

    /// <summary><c>containerd://</c> and the id.</summary>
    public string? ContainerID { get; set; }

    /// <summary>Its state.</summary>
    public ContainerStateSummary? State { get; set; }
}

/// <summary>State of a container; exactly one is set.</summary>
public sealed class ContainerStateSummary
{
    /// <summary>It runs.</summary>
    public ContainerStateDetail? Running { get; set; }

    /// <summary>It does not run yet.</summary>
    public ContainerStateDetail? Waiting { get; set; }

    /// <summary>It has ended.</summary>
    public ContainerStateDetail? Terminated { get; set; }
}

/// <summary>Why a container is in its state.</summary>
public sealed class ContainerStateDetail
{
    /// <summary>One word.</summary>
    public string? Reason { get; set; }

    /// <summary>In words.</summary>
    public string? Message { get; set; }
}
