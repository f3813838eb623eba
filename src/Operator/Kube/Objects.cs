using System.Text.Json.Nodes;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using k8s;
using k8s.Models;

namespace Bgsnap.Operator.Kube;

/// <summary>Operations on objects of every kind. They are idempotent: the object may already exist or be gone.</summary>
internal sealed class Objects(IApiClient api)
{
    /// <summary>An object, or null.</summary>
    public async Task<T?> GetOrNull<T>(ResourceType<T> type, string ns, string name, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        try
        {
            return await api.Get(type, ns, name, stop).ConfigureAwait(false);
        }
        catch (ApiException e) when (e.IsNotFound)
        {
            return null;
        }
    }

    /// <summary>Creates an object, or returns the existing one of that name.</summary>
    public async Task<T> CreateOrGet<T>(ResourceType<T> type, T item, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        try
        {
            return await api.Create(type, item, stop).ConfigureAwait(false);
        }
        catch (ApiException e) when (e.IsAlreadyExists)
        {
            return await api.Get(type, item.Metadata.NamespaceProperty, item.Metadata.Name, stop).ConfigureAwait(false);
        }
    }

    /// <summary>Deletes exactly this object; another one of the same name stays.</summary>
    public async Task DeleteIfThere<T>(ResourceType<T> type, T item, int? grace, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        try
        {
            await api.Delete(type, item.Metadata.NamespaceProperty, item.Metadata.Name, item.Metadata.Uid, grace, stop)
                .ConfigureAwait(false);
        }
        catch (ApiException e) when (e.IsNotFound)
        {
            // Already gone.
        }
        catch (ApiException e) when (e.IsConflict)
        {
            // Another object of that name does not concern us; but if this very object still exists, the caller must retry.
            T? there = await GetOrNull(type, item.Metadata.NamespaceProperty, item.Metadata.Name, stop).ConfigureAwait(false);
            if (there?.Metadata.Uid == item.Metadata.Uid)
                throw;
        }
    }

    /// <summary>Adds a finalizer; fails if the object has changed since we read it.</summary>
    public Task AddFinalizer<T>(ResourceType<T> type, Informer<T> copies, T item, string finalizer, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        PatchFinalizers(type, copies, item, [.. item.Metadata.Finalizers ?? [], finalizer], stop);

    /// <summary>Removes a finalizer; the API server removes a deleted object once its last finalizer is gone.</summary>
    public async Task RemoveFinalizer<T>(ResourceType<T> type, Informer<T> copies, T item, string finalizer, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        try
        {
            await PatchFinalizers(type, copies, item, (item.Metadata.Finalizers ?? []).Where(f => f != finalizer), stop)
                .ConfigureAwait(false);
        }
        catch (ApiException e) when (e.IsNotFound)
        {
            // Already gone.
        }
    }

    /// <summary>Patches the status; fails if the object has changed since we read it.</summary>
    /// <returns>The object afterwards.</returns>
    public async Task<T> PatchStatus<T>(ResourceType<T> type, Informer<T> copies, T item, JsonObject status, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        JsonObject patch = new() { ["metadata"] = Version(item), ["status"] = status };
        T after = await api.MergePatch(type, item.Metadata.NamespaceProperty, item.Metadata.Name, "status", patch, stop)
            .ConfigureAwait(false);
        copies.Learn(after);
        item.Metadata.ResourceVersion = after.Metadata.ResourceVersion;
        return after;
    }

    private async Task PatchFinalizers<T>(
        ResourceType<T> type,
        Informer<T> copies,
        T item,
        IEnumerable<string> finalizers,
        CancellationToken stop
    )
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        JsonObject metadata = Version(item);
        metadata["finalizers"] = new JsonArray([.. finalizers.Select(f => (JsonNode)f)]);
        T after = await api.MergePatch(
                type,
                item.Metadata.NamespaceProperty,
                item.Metadata.Name,
                null,
                new JsonObject { ["metadata"] = metadata },
                stop
            )
            .ConfigureAwait(false);
        copies.Learn(after);
        item.Metadata.ResourceVersion = after.Metadata.ResourceVersion;
        item.Metadata.Finalizers = after.Metadata.Finalizers;
    }

    private static JsonObject Version(IKubernetesObject<V1ObjectMeta> item) =>
        new() { ["resourceVersion"] = item.Metadata.ResourceVersion };
}
