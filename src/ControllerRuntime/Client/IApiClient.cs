using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using k8s;
using k8s.Models;

namespace Bgsnap.ControllerRuntime.Client;

/// <summary>The verbs of <see cref="ApiClient"/>, so that tests can script them.</summary>
public interface IApiClient
{
    /// <summary>Reads one object.</summary>
    Task<T> Get<T>(ResourceType<T> type, string ns, string name, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta>;

    /// <summary>Reads all objects of a namespace (null: of all namespaces) that match a label selector, page by page.</summary>
    Task<ResourceList<T>> List<T>(ResourceType<T> type, string? ns, string? labels, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta>;

    /// <summary>Creates an object.</summary>
    Task<T> Create<T>(ResourceType<T> type, T item, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta>;

    /// <summary>Changes an object or its subresource (RFC 7386).</summary>
    Task<T> MergePatch<T>(ResourceType<T> type, string ns, string name, string? subresource, JsonObject patch, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta>;

    /// <summary>Deletes an object if it has this uid; null: any.</summary>
    Task Delete<T>(ResourceType<T> type, string ns, string name, string? uid, int? graceSeconds, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta>;

    /// <summary>Posts any request, such as a TokenReview.</summary>
    Task<TAnswer> Post<TAnswer>(string path, JsonNode body, JsonTypeInfo<TAnswer> answer, CancellationToken stop);

    /// <summary>Watches from a resource version on, until the server ends the watch.</summary>
    IAsyncEnumerable<WatchEvent<T>> Watch<T>(
        ResourceType<T> type,
        string? ns,
        string? labels,
        string resourceVersion,
        TimeSpan longest,
        CancellationToken stop
    )
        where T : class, IKubernetesObject<V1ObjectMeta>;
}
