using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Operator.Kube;
using k8s.Models;

namespace Bgsnap.OperatorBenchmark;

/// <summary>Kinds that only the simulation writes.</summary>
internal static class SimulatedResources
{
    public static ResourceType<V1Node> Nodes { get; } = CoreResources.Core<V1Node>("nodes");
    public static ResourceType<V1Namespace> Namespaces { get; } = CoreResources.Core<V1Namespace>("namespaces");
    public static ResourceType<V1PersistentVolume> Volumes { get; } = CoreResources.Core<V1PersistentVolume>("persistentvolumes");
}
