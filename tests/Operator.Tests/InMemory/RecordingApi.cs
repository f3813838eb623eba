using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Bgsnap.ControllerRuntime.Client;
using k8s;
using k8s.Models;

namespace Bgsnap.Operator.Tests.InMemory;

/// <summary>A request of the operator.</summary>
internal sealed record Request(string Verb, string Plural, string Name, string? Subresource = null)
{
    internal bool IsWrite => Verb is not ("get" or "list");

    /// <summary>Namespace of a created object; null: another request.</summary>
    public string? Namespace { get; init; }

    public override string ToString() => $"{Verb} {Plural}{(Subresource is null ? "" : "/" + Subresource)} {Name}";
}

/// <summary>The operator died in the middle of a request.</summary>
internal sealed class CrashException() : Exception("the operator was killed");

/// <summary>How a request fails.</summary>
internal enum Fault
{
    None,

    /// <summary>The server was not reached.</summary>
    Unreachable,

    /// <summary>The server carried it out, but the answer was lost.</summary>
    AnswerLost,

    /// <summary>A conflict; only for writes.</summary>
    Conflict,

    /// <summary>Rejected, as by a quota or an admission policy; only for writes.</summary>
    Refused,

    /// <summary>Rejected, because the namespace is being deleted; only for creations.</summary>
    NamespaceEnds,

    /// <summary>An internal server error.</summary>
    ServerError,

    /// <summary>The operator dies before the server carries it out.</summary>
    CrashBefore,

    /// <summary>The operator dies after the server has carried it out.</summary>
    CrashAfter,
}

/// <summary>The operator's client of the API server: records requests, and lets one request fail.</summary>
internal sealed class RecordingApi(InMemoryApi inner, List<Request> requests, Func<int, Request, Fault> fault) : IApiClient
{
    private bool _crashed;

    public Task<T> Get<T>(ResourceType<T> type, string ns, string name, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        Do(new Request("get", type.Plural, name), () => inner.Get(type, ns, name, stop));

    public Task<ResourceList<T>> List<T>(ResourceType<T> type, string? ns, string? labels, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        Do(new Request("list", type.Plural, ""), () => inner.List(type, ns, labels, stop));

    public Task<T> Create<T>(ResourceType<T> type, T item, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        Do(
            new Request("create", type.Plural, type.Plural == "events" ? (item as Corev1Event)!.Reason : item.Metadata.Name)
            {
                Namespace = item.Metadata.NamespaceProperty,
            },
            () => inner.Create(type, item, stop)
        );

    public Task<T> MergePatch<T>(
        ResourceType<T> type,
        string ns,
        string name,
        string? subresource,
        JsonObject patch,
        CancellationToken stop
    )
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        Do(new Request("patch", type.Plural, name, subresource), () => inner.MergePatch(type, ns, name, subresource, patch, stop));

    public Task Delete<T>(ResourceType<T> type, string ns, string name, string? uid, int? graceSeconds, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> => Do(new Request("delete", type.Plural, name), async () =>
        {
            await inner.Delete(type, ns, name, uid, graceSeconds, stop);
            return true;
        });

    public Task<TAnswer> Post<TAnswer>(string path, JsonNode body, JsonTypeInfo<TAnswer> answer, CancellationToken stop) =>
        throw new NotSupportedException();

    public IAsyncEnumerable<WatchEvent<T>> Watch<T>(
        ResourceType<T> type,
        string? ns,
        string? labels,
        string resourceVersion,
        TimeSpan longest,
        CancellationToken stop
    )
        where T : class, IKubernetesObject<V1ObjectMeta> => throw new NotSupportedException();

    private async Task<T> Do<T>(Request request, Func<Task<T>> work)
    {
        if (_crashed)
            throw new CrashException();
        requests.Add(request);
        Fault f = fault(requests.Count, request);
        switch (f)
        {
            case Fault.Unreachable:
                throw new HttpRequestException("connection refused");
            case Fault.Conflict when request.IsWrite:
                throw new ApiException(409, "Conflict", "the object has been modified");
            case Fault.Refused when request.IsWrite:
                throw new ApiException(403, "Forbidden", "exceeded quota: pods");
            case Fault.NamespaceEnds when request is { Verb: "create", Namespace: World.Namespace }:
                throw new ApiException(
                    403,
                    "Forbidden",
                    "unable to create new content in namespace prod because it is being terminated",
                    "NamespaceTerminating"
                );
            case Fault.ServerError:
                throw new ApiException(500, "InternalError", "etcdserver: request timed out");
            case Fault.CrashBefore:
                _crashed = true;
                throw new CrashException();
        }
        T answer = await work();
        if (f == Fault.AnswerLost)
            throw new HttpRequestException("connection reset by peer");
        if (f != Fault.CrashAfter)
            return answer;
        _crashed = true;
        throw new CrashException();
    }
}
