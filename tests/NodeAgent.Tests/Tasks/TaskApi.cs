using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using System.Threading.Channels;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using k8s;
using k8s.Models;

namespace Bgsnap.NodeAgent.Tests.Tasks;

/// <summary>The API server as an agent uses it: it gets pods by name, watches tasks, and writes the tasks' status.</summary>
internal sealed class TaskApi : IApiClient
{
    private readonly Channel<string> _events = Channel.CreateUnbounded<string>();
    private readonly Lock _gate = new();
    private int _version = 1;

    internal Dictionary<string, PodSummary> Pods { get; } = [];

    /// <summary>The exceptions of the next status writes, in order; later writes succeed.</summary>
    internal Queue<Exception> WriteFailures { get; } = [];

    /// <summary>Every requested patch, including those that failed.</summary>
    internal List<JsonObject> Patches { get; } = [];

    /// <summary>Every status written.</summary>
    internal List<SnapshotTaskStatus> Written { get; } = [];

    internal SnapshotTaskStatus[] Told
    {
        get
        {
            lock (_gate)
                return [.. Written];
        }
    }

    internal static ApiException NotFound => new(404, "NotFound", "not found");

    /// <summary>Makes the watch report a task.</summary>
    internal void Tell(string type, SnapshotTask task)
    {
        task.Metadata.ResourceVersion = $"{Interlocked.Increment(ref _version)}";
        Assert.True(
            _events.Writer.TryWrite(
                $$"""{"type":"{{type}}","object":{{JsonSerializer.Serialize(task, BgsnapJson.Default.SnapshotTask)}} }"""
            )
        );
    }

    public Task<T> Get<T>(ResourceType<T> type, string ns, string name, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        Pods.TryGetValue(name, out PodSummary? pod) ? Task.FromResult((T)(object)pod) : throw NotFound;

    public Task<ResourceList<T>> List<T>(ResourceType<T> type, string? ns, string? labels, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        Task.FromResult(new ResourceList<T> { Metadata = new V1ListMeta { ResourceVersion = "1" } });

    public Task<T> MergePatch<T>(
        ResourceType<T> type,
        string ns,
        string name,
        string? subresource,
        JsonObject patch,
        CancellationToken stop
    )
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        Assert.Equal(("snapshottasks", "ns", "status"), (type.Plural, ns, subresource));
        lock (_gate)
        {
            Patches.Add((JsonObject)patch.DeepClone());
            if (WriteFailures.TryDequeue(out Exception? failure))
                throw failure;
            Written.Add(patch["status"].Deserialize(BgsnapJson.Default.SnapshotTaskStatus)!);
        }
        return Task.FromResult((T)(object)new SnapshotTask());
    }

    public async IAsyncEnumerable<WatchEvent<T>> Watch<T>(
        ResourceType<T> type,
        string? ns,
        string? labels,
        string resourceVersion,
        TimeSpan longest,
        [EnumeratorCancellation] CancellationToken stop
    )
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        await foreach (string line in _events.Reader.ReadAllAsync(stop))
            yield return WatchEvent<T>.Read(line, type.Json);
    }

    public Task<T> Create<T>(ResourceType<T> type, T item, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> => throw new NotSupportedException();

    public Task Delete<T>(ResourceType<T> type, string ns, string name, string? uid, int? graceSeconds, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> => throw new NotSupportedException();

    public Task<TAnswer> Post<TAnswer>(string path, JsonNode body, JsonTypeInfo<TAnswer> answer, CancellationToken stop) =>
        throw new NotSupportedException();
}
