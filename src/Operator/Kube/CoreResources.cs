using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Bgsnap.ControllerRuntime.Client;
using k8s;
using k8s.Models;

namespace Bgsnap.Operator.Kube;

/// <summary>The core Kubernetes kinds that the operator writes, with the client library's types.</summary>
internal static class CoreResources
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        TypeInfoResolver = new DefaultJsonTypeInfoResolver(),
    };

    /// <summary>Pods.</summary>
    public static ResourceType<V1Pod> Pods { get; } = Core<V1Pod>("pods");

    /// <summary>Claims.</summary>
    public static ResourceType<V1PersistentVolumeClaim> Claims { get; } = Core<V1PersistentVolumeClaim>("persistentvolumeclaims");

    /// <summary>Events.</summary>
    public static ResourceType<Corev1Event> Events { get; } = Core<Corev1Event>("events");

    /// <summary>The spec of a pod.</summary>
    public static JsonTypeInfo<V1PodSpec> PodSpec { get; } = (JsonTypeInfo<V1PodSpec>)Json.GetTypeInfo(typeof(V1PodSpec));

    /// <summary>A kind of the core group.</summary>
    public static ResourceType<T> Core<T>(string plural)
        where T : class, IKubernetesObject<V1ObjectMeta> => Of<T>("", "v1", plural);

    /// <summary>A kind of any group.</summary>
    public static ResourceType<T> Of<T>(string group, string version, string plural)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        new(
            group,
            version,
            plural,
            (JsonTypeInfo<T>)Json.GetTypeInfo(typeof(T)),
            (JsonTypeInfo<ResourceList<T>>)Json.GetTypeInfo(typeof(ResourceList<T>))
        );
}
