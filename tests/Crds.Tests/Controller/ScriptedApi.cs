using System.Runtime.CompilerServices;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using System.Threading.Channels;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.V1Alpha1;
using k8s;
using k8s.Models;

namespace Bgsnap.Crds.Tests.Controller;

/// <summary>An API server of tasks that answers lists and watches by a script, in the order in which they come.</summary>
internal sealed class ScriptedApi : IApiClient
{
    private readonly Channel<Func<object>> _script = Channel.CreateUnbounded<Func<object>>();

    /// <summary>What was asked: <c>list</c>, or <c>watch</c> and the resource version.</summary>
    internal List<string> Asked { get; } = [];

    internal ScriptedApi ThenList(string version, params SnapshotTask[] items) => Then(() => Samples.List(version, items));

    internal ScriptedApi ThenFail(Exception e) => Then(() => throw e);

    /// <summary>A watch: lines, then perhaps an exception, else its clean end.</summary>
    internal ScriptedApi ThenWatch(params object[] linesAndEnd) => Then(() => linesAndEnd);

    /// <summary>A watch that tells these lines and then nothing until it is cancelled.</summary>
    internal ScriptedApi ThenWatchOn(params object[] lines) => Then(() => (object[])[.. lines, Silence]);

    private static readonly object Silence = new();

    private ScriptedApi Then(Func<object> answer)
    {
        Assert.True(_script.Writer.TryWrite(answer));
        return this;
    }

    public async Task<ResourceList<T>> List<T>(ResourceType<T> type, string? ns, string? labels, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        lock (Asked)
            Asked.Add("list");
        return (ResourceList<T>)(await _script.Reader.ReadAsync(stop))();
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
        lock (Asked)
            Asked.Add("watch " + resourceVersion);
        foreach (object line in (object[])(await _script.Reader.ReadAsync(stop))())
        {
            if (line == Silence)
                await Task.Delay(Timeout.Infinite, stop);
            if (line is Exception e)
                throw e;
            yield return WatchEvent<T>.Read((string)line, type.Json);
        }
    }

    public Task<T> Get<T>(ResourceType<T> type, string ns, string name, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> => throw new NotSupportedException();

    public Task<T> Create<T>(ResourceType<T> type, T item, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> => throw new NotSupportedException();

    public Task<T> MergePatch<T>(
        ResourceType<T> type,
        string ns,
        string name,
        string? subresource,
        JsonObject patch,
        CancellationToken stop
    )
        where T : class, IKubernetesObject<V1ObjectMeta> => throw new NotSupportedException();

    public Task Delete<T>(ResourceType<T> type, string ns, string name, string? uid, int? graceSeconds, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> => throw new NotSupportedException();

    public Task<TAnswer> Post<TAnswer>(string path, JsonNode body, JsonTypeInfo<TAnswer> answer, CancellationToken stop) =>
        throw new NotSupportedException();
}
