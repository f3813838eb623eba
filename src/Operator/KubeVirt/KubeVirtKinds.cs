using System.Text.Json.Nodes;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using k8s;
using k8s.Models;

namespace Bgsnap.Operator.KubeVirt;

/// <summary>
/// The kinds of KubeVirt that the operator uses. It watches none of them and asks for them only where a spec names them, so KubeVirt need
/// not be installed.
/// </summary>
internal static class KubeVirtKinds
{
    /// <summary>The API group.</summary>
    public const string Group = SnapshotSource.KubeVirtGroup;

    /// <summary>Names of the kinds that can be a source.</summary>
    public const string Machine = "VirtualMachine",
        Instance = "VirtualMachineInstance";

    /// <summary>VirtualMachines, unparsed.</summary>
    public static ResourceType<RawObject> Machines { get; } = CoreResources.Of<RawObject>(Group, "v1", "virtualmachines");

    /// <summary>VirtualMachineInstances, with the fields that the operator understands.</summary>
    public static ResourceType<VirtualMachineInstance> Instances { get; } =
        CoreResources.Of<VirtualMachineInstance>(Group, "v1", "virtualmachineinstances");

    /// <summary>VirtualMachineInstances, unparsed.</summary>
    public static ResourceType<RawObject> RawInstances { get; } = CoreResources.Of<RawObject>(Group, "v1", "virtualmachineinstances");

    /// <summary>ControllerRevisions, in which KubeVirt stores the instance type and preference that a VM was created with.</summary>
    public static ResourceType<RawObject> Revisions { get; } = CoreResources.Of<RawObject>("apps", "v1", "controllerrevisions");

    /// <summary>The kind of an instance type or preference that a VM's spec names; null: no such kind.</summary>
    /// <param name="kind">Such as VirtualMachineClusterInstancetype; KubeVirt also accepts lower case and the plural.</param>
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

/// <summary>An object whose spec and status stay unparsed.</summary>
internal sealed class RawObject : IKubernetesObject<V1ObjectMeta>
{
    /// <inheritdoc/>
    public string ApiVersion { get; set; } = "";

    /// <inheritdoc/>
    public string Kind { get; set; } = "";

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <summary>The desired state.</summary>
    public JsonObject? Spec { get; set; }

    /// <summary>The observed state.</summary>
    public JsonObject? Status { get; set; }

    /// <summary>For a ControllerRevision: the object that it stores.</summary>
    public JsonObject? Data { get; set; }

    /// <summary>For a ControllerRevision: its number.</summary>
    public long? Revision { get; set; }
}
