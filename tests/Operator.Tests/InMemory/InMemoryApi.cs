using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Bgsnap.ControllerRuntime.Client;
using k8s;
using k8s.Models;

namespace Bgsnap.Operator.Tests.InMemory;

/// <summary>
/// An API server in memory, with what controllers depend on: uid, resource version, generation, optimistic concurrency, finalizers,
/// graceful deletion of pods, status as a subresource, watches.
/// </summary>
internal sealed class InMemoryApi(TimeProvider clock) : IApiClient
{
    private static readonly string[] WithStatus =
    [
        "vmbackgroundsnapshots",
        "vmbackgroundrestores",
        "vmbackgroundsnapshotschedules",
        "snapshottasks",
        "pods",
        "volumesnapshots",
    ];
    private const long FirstVersion = 100;
    private readonly Lock _gate = new();
    private readonly SortedDictionary<string, JsonObject> _objects = new(StringComparer.Ordinal);
    private readonly List<Change> _history = [];
    private readonly ConditionalWeakTable<JsonObject, byte[]> _texts = [];
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private TaskCompletionSource _handled = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<Watcher> _watchers = [];
    private long _version = FirstVersion;
    private int _made;

    /// <summary>A change of an object, as a watch reports it.</summary>
    internal sealed record Change(long Version, string Plural, string Type, JsonObject Object);

    /// <summary>Kinds that this server does not serve: it answers their paths like any unknown path.</summary>
    internal HashSet<string> NotServed { get; } = [];

    /// <summary>Everything that happened.</summary>
    internal IReadOnlyList<Change> History
    {
        get
        {
            lock (_gate)
                return [.. _history];
        }
    }

    /// <summary>
    /// Whether this many watches are open and their readers have handled every change. If not, <paramref name="progress"/> completes when a
    /// watch opens, ends, or has handled something.
    /// </summary>
    internal bool HasTold(int watches, out Task progress)
    {
        lock (_gate)
        {
            progress = _handled.Task;
            return _watchers.Count == watches && _watchers.All(w => w.ToldUpTo == _version);
        }
    }

    public Task<T> Get<T>(ResourceType<T> type, string ns, string name, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> => Locked(() => Read(type, Existing(Served(type.Plural), ns, name)));

    public Task<ResourceList<T>> List<T>(ResourceType<T> type, string? ns, string? labels, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        Locked(() =>
            new ResourceList<T>
            {
                Metadata = new V1ListMeta { ResourceVersion = $"{_version}" },
                Items =
                [
                    .. _objects
                        .Where(p =>
                            p.Key.StartsWith(Served(type.Plural) + "/" + (ns is null ? "" : ns + "/"), StringComparison.Ordinal)
                            && Matches(p.Value, labels)
                        )
                        .Select(p => Read(type, p.Value)),
                ],
            }
        );

    public Task<T> Create<T>(ResourceType<T> type, T item, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        Locked(() =>
        {
            JsonObject made = (JsonObject)JsonSerializer.SerializeToNode(item, type.Json)!;
            JsonObject metadata = (JsonObject)made["metadata"]!;
            string key = Key(Served(type.Plural), item.Metadata.NamespaceProperty, item.Metadata.Name);
            if (_objects.ContainsKey(key))
                throw new ApiException(409, "AlreadyExists", $"{key} already exists");
            (metadata["uid"], metadata["generation"], metadata["creationTimestamp"]) = (
                $"{++_made:x8}-1111-4222-8333-444455556666",
                1,
                Now()
            );
            metadata.Remove("deletionTimestamp");
            if (WithStatus.Contains(type.Plural))
                made.Remove("status");
            _objects[key] = made;
            Happened(type.Plural, "ADDED", made);
            return Read(type, made);
        });

    public Task<T> MergePatch<T>(
        ResourceType<T> type,
        string ns,
        string name,
        string? subresource,
        JsonObject patch,
        CancellationToken stop
    )
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        Locked(() =>
        {
            JsonObject before = Existing(type.Plural, ns, name),
                after = (JsonObject)before.DeepClone();
            foreach (string precondition in new[] { "resourceVersion", "uid" })
                if (patch["metadata"]?[precondition] is { } wanted && !JsonNode.DeepEquals(wanted, before["metadata"]![precondition]))
                    throw new ApiException(409, "Conflict", $"{type.Plural} {name}: the object has been modified");
            bool deleting = before["metadata"]!["deletionTimestamp"] is not null;
            if (
                deleting
                && patch["metadata"]?["finalizers"] is JsonArray wished
                && wished.Any(f => !Finalizers(before).Contains(f!.GetValue<string>()))
            )
                throw new ApiException(
                    422,
                    "Invalid",
                    "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted"
                );
            foreach ((string part, JsonNode? value) in patch)
            {
                if (subresource == "status" ? part != "status" : part == "status" && WithStatus.Contains(type.Plural))
                    continue;
                after[part] = Merged(after[part], value);
            }
            if (JsonNode.DeepEquals(before, after))
                return Read(type, before);
            if (!JsonNode.DeepEquals(before["spec"], after["spec"]))
                after["metadata"]!["generation"] = before["metadata"]!["generation"]!.GetValue<int>() + 1;
            Store(type.Plural, after, deleting && Finalizers(after).Count == 0);
            return Read(type, after);
        });

    public Task Delete<T>(ResourceType<T> type, string ns, string name, string? uid, int? graceSeconds, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        Locked(() =>
        {
            JsonObject item = (JsonObject)Existing(type.Plural, ns, name).DeepClone();
            if (uid is not null && item["metadata"]!["uid"]!.GetValue<string>() != uid)
                throw new ApiException(409, "Conflict", "the UID in the precondition does not match");
            // A pod bound to a node disappears only when its kubelet has ended it.
            bool waits =
                Finalizers(item).Count > 0 || (type.Plural == "pods" && item["spec"]?["nodeName"] is not null && graceSeconds != 0);
            if (waits && item["metadata"]!["deletionTimestamp"] is not null)
                return true;
            item["metadata"]!["deletionTimestamp"] = Now();
            Store(type.Plural, item, !waits);
            return true;
        });

    public Task<TAnswer> Post<TAnswer>(string path, JsonNode body, JsonTypeInfo<TAnswer> answer, CancellationToken stop) =>
        throw new NotSupportedException();

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
        Watcher me = new() { ToldUpTo = long.Parse(resourceVersion) };
        lock (_gate)
        {
            _watchers.Add(me);
            Renew(ref _handled);
        }
        try
        {
            while (true)
            {
                Task changed;
                List<Change> news;
                long now;
                lock (_gate)
                {
                    (changed, now) = (_changed.Task, _version);
                    // Each change raises the version by one.
                    news =
                    [
                        .. _history
                            .Skip((int)(me.ToldUpTo - FirstVersion))
                            .Where(c => c.Plural == type.Plural && Matches(c.Object, labels)),
                    ];
                }
                foreach (Change c in news)
                    yield return new WatchEvent<T>(c.Type, Read(type, c.Object));
                // The reader asks for the next change, so it has handled the last one.
                lock (_gate)
                {
                    me.ToldUpTo = now;
                    Renew(ref _handled);
                }
                await changed.WaitAsync(stop).ConfigureAwait(false);
            }
        }
        finally
        {
            lock (_gate)
            {
                _watchers.Remove(me);
                Renew(ref _handled);
            }
        }
    }

    private sealed class Watcher
    {
        internal long ToldUpTo { get; set; }
    }

    private Task<T> Locked<T>(Func<T> work)
    {
        lock (_gate)
        {
            try
            {
                return Task.FromResult(work());
            }
            catch (ApiException e)
            {
                return Task.FromException<T>(e);
            }
        }
    }

    private void Store(string plural, JsonObject item, bool gone)
    {
        string key = Key(plural, item["metadata"]!["namespace"]!.GetValue<string>(), item["metadata"]!["name"]!.GetValue<string>());
        if (gone)
            _objects.Remove(key);
        else
            _objects[key] = item;
        Happened(plural, gone ? "DELETED" : "MODIFIED", item);
    }

    private void Happened(string plural, string type, JsonObject item)
    {
        item["metadata"]!["resourceVersion"] = $"{++_version}";
        // Nothing changes an object that is stored: a patch makes another. So its text stays the same.
        _texts.Add(item, JsonSerializer.SerializeToUtf8Bytes(item));
        _history.Add(new Change(_version, plural, type, item));
        Renew(ref _changed);
    }

    /// <summary>Wakes those who wait, and replaces the signal for the next wait.</summary>
    private static void Renew(ref TaskCompletionSource signal)
    {
        TaskCompletionSource before = signal;
        signal = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        before.SetResult();
    }

    private string Served(string plural) => NotServed.Contains(plural) ? throw new ApiException(404, "", "HTTP 404") : plural;

    private JsonObject Existing(string plural, string ns, string name) =>
        _objects.GetValueOrDefault(Key(plural, ns, name)) ?? throw new ApiException(404, "NotFound", $"{plural} \"{name}\" not found");

    // Each object is read many times, and reading it from its text is much quicker than from its nodes.
    private T Read<T>(ResourceType<T> type, JsonObject item)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        JsonSerializer.Deserialize(
            _texts.TryGetValue(item, out byte[]? text) ? text : throw new ArgumentException(null, nameof(item)),
            type.Json
        )!;

    private static string Key(string plural, string ns, string name) => $"{plural}/{ns}/{name}";

    private static List<string> Finalizers(JsonObject item) =>
        [.. (item["metadata"]!["finalizers"] as JsonArray ?? []).Select(f => f!.GetValue<string>())];

    private static bool Matches(JsonObject item, string? labels) =>
        labels is null
        || (
            item["metadata"]!["labels"] is JsonObject has
            && (labels.Split('=') is [var key, var value] ? has[key]?.GetValue<string>() == value : has.ContainsKey(labels))
        );

    private string Now() =>
        clock.GetUtcNow().UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", System.Globalization.CultureInfo.InvariantCulture);

    // RFC 7386.
    private static JsonNode? Merged(JsonNode? target, JsonNode? patch)
    {
        if (patch is not JsonObject changes)
            return patch?.DeepClone();
        JsonObject result = target is JsonObject o ? (JsonObject)o.DeepClone() : [];
        foreach ((string name, JsonNode? value) in changes)
        {
            if (value is null)
                result.Remove(name);
            else
                result[name] = Merged(result[name], value);
        }
        return result;
    }
}
