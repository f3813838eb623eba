using System.Text.Json.Nodes;
using Bgsnap.Crds.Client;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using k8s;
using k8s.Models;

namespace Bgsnap.Operator.KubeVirt;

/// <summary>
/// The kinds of KubeVirt that are read. None is watched: they are asked for only where a source names them, so that KubeVirt need not be
/// there.
/// </summary>
internal static class KubeVirtKinds
{
    /// <summary>The API group.</summary>
    public const string Group = SnapshotSource.KubeVirtGroup;

    /// <summary>Names of the kinds that can be a source.</summary>
    public const string Machine = "VirtualMachine",
        Instance = "VirtualMachineInstance";

    /// <summary>VirtualMachines, as they are.</summary>
    public static ResourceType<RawObject> Machines { get; } = CoreResources.Of<RawObject>(Group, "v1", "virtualmachines");

    /// <summary>VirtualMachineInstances, as far as the operator understands them.</summary>
    public static ResourceType<VirtualMachineInstance> Instances { get; } =
        CoreResources.Of<VirtualMachineInstance>(Group, "v1", "virtualmachineinstances");

    /// <summary>VirtualMachineInstances, as they are.</summary>
    public static ResourceType<RawObject> RawInstances { get; } = CoreResources.Of<RawObject>(Group, "v1", "virtualmachineinstances");

    /// <summary>ControllerRevisions, in which KubeVirt keeps the instance type and preference that a VM was made with.</summary>
    public static ResourceType<RawObject> Revisions { get; } = CoreResources.Of<RawObject>("apps", "v1", "controllerrevisions");

    /// <summary>A kind of instance types or preferences, by the word in a VM's spec; null: none of them.</summary>
    /// <param name="kind">Such as VirtualMachineClusterInstancetype; KubeVirt takes it in lower case and in the plural too.</param>
    public static (ResourceType<RawObject> Type, bool Clustered)? Template(string kind)
    {
        string plural = kind.ToLowerInvariant().TrimEnd('s') + "s";
        return
            plural
                is "virtualmachineinstancetypes"
                    or "virtualmachinepreferences"
                    or "virtualmachineclusterinstancetypes"
                    or "virtualmachineclusterpreferences"
            ? (
                CoreResources.Of<RawObject>("instancetype.kubevirt.io", "v1beta1", plural),
                plural.StartsWith("virtualmachinecluster", StringComparison.Ordinal)
            )
            : null;
    }
}

/// <summary>An object that is kept as it is.</summary>
internal sealed class RawObject : IKubernetesObject<V1ObjectMeta>
{
    /// <inheritdoc/>
    public string ApiVersion { get; set; } = "";

    /// <inheritdoc/>
    public string Kind { get; set; } = "";

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <summary>What it is to be.</summary>
    public JsonObject? Spec { get; set; }

    /// <summary>What it is.</summary>
    public JsonObject? Status { get; set; }

    /// <summary>Of a ControllerRevision: the object that it keeps.</summary>
    public JsonObject? Data { get; set; }

    /// <summary>Of a ControllerRevision: its number.</summary>
    public long? Revision { get; set; }
}
