using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Bgsnap.Crds.Client;
using k8s;
using k8s.Models;

namespace Bgsnap.OperatorBenchmark;

/// <summary>Kinds that only the simulation writes.</summary>
internal static class SimulatedResources
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        TypeInfoResolver = new DefaultJsonTypeInfoResolver(),
    };

    public static ResourceType<V1Node> Nodes { get; } = Core<V1Node>("nodes");
    public static ResourceType<V1Namespace> Namespaces { get; } = Core<V1Namespace>("namespaces");
    public static ResourceType<V1PersistentVolume> Volumes { get; } = Core<V1PersistentVolume>("persistentvolumes");

    private static ResourceType<T> Core<T>(string plural) where T : class, IKubernetesObject<V1ObjectMeta> =>
        new("", "v1", plural, (JsonTypeInfo<T>)Json.GetTypeInfo(typeof(T)), (JsonTypeInfo<ResourceList<T>>)Json.GetTypeInfo(typeof(ResourceList<T>)));
}
