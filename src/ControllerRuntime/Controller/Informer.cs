using System.Collections.Concurrent;
using Bgsnap.ControllerRuntime.Client;
using k8s;
using k8s.Models;
using Microsoft.Extensions.Logging;

namespace Bgsnap.ControllerRuntime.Controller;

/// <summary>
/// Keeps a local copy of all objects of a kind by list and watch, and reports every change. It survives whatever ends a watch: idle closes,
/// resets, a server restart, a resource version that is too old (410). It finds deletions that happened between two watches by comparing
/// lists.
/// </summary>
public sealed class Informer<T>(IApiClient api, ResourceType<T> type, string? ns, string? labels, ILogger log, TimeProvider? clock = null)
    where T : class, IKubernetesObject<V1ObjectMeta>
{
    private static readonly TimeSpan LongestWatch = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(10);
    private readonly ConcurrentDictionary<ObjectKey, T> _items = new();
    private readonly TaskCompletionSource _synced = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TimeProvider _clock = clock ?? TimeProvider.System;
    private Action<ObjectKey, T?, T?>? _changed;

    /// <summary>Called with the key, the object before and the object after; null: it does not exist. Must not block.</summary>
    public event Action<ObjectKey, T?, T?>? Changed
    {
        add => _changed += value;
        remove => _changed -= value;
    }

    /// <summary>
    /// Called with the answer to a write of our own, which <see cref="Changed"/> does not report because the writer knows it. Must not
    /// block.
    /// </summary>
    public event Action<ObjectKey, T>? Learned;

    /// <summary>Completes when the first list has been read.</summary>
    public Task Synced => _synced.Task;

    /// <summary>The local copy of all objects.</summary>
    public IEnumerable<T> Items => _items.Values;

    /// <summary>The local copy of one object, or null.</summary>
    public T? Find(ObjectKey key) => _items.GetValueOrDefault(key);

    /// <summary>Lists and watches until stopped.</summary>
    public async Task Run(CancellationToken stop)
    {
        string? resumeAt = null;
        int failures = 0;
        while (!stop.IsCancellationRequested)
        {
            try
            {
                resumeAt ??= await Relist(stop).ConfigureAwait(false);
                await foreach (WatchEvent<T> e in api.Watch(type, ns, labels, resumeAt, LongestWatch, stop).ConfigureAwait(false))
                {
                    failures = 0;
                    resumeAt = e.Item.Metadata.ResourceVersion ?? resumeAt;
                    Apply(e);
                }
                // The server ended the watch, as it normally does. The pause is for a server that ends every watch at once.
                await Task.Delay(TimeSpan.FromMilliseconds(200), _clock, stop).ConfigureAwait(false);
            }
            catch (Exception) when (stop.IsCancellationRequested)
            {
                break;
            }
            catch (ApiException e) when (e.Code == 410)
            {
                log.LogDebug("{Plural}: the resource version is too old, listing again", type.Plural);
                resumeAt = null;
                // List again at once, but pause if the server answers this again and again.
                if (failures++ > 0)
                    await Task.Delay(Backoff.Of(failures, TimeSpan.FromMilliseconds(250), LongestPause), _clock, stop)
                        .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
            catch (Exception e) when (ConnectionTrouble.Is(e))
            {
                // After a refusal (a restarted server may no longer know the version) list again; after a reset continue the watch.
                if (e is ApiException)
                    resumeAt = null;
                TimeSpan pause = Backoff.Of(failures++, TimeSpan.FromMilliseconds(250), LongestPause);
                log.LogInformation("{Plural}: watch ended ({Why}), again in {Pause:0.0} s", type.Plural, e.Message, pause.TotalSeconds);
                await Task.Delay(pause, _clock, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    /// <summary>Stores the answer to a write, so that a reader need not wait for the watch to deliver it.</summary>
    public void Learn(T item)
    {
        // The last finalizer of a deleted object was removed: the object is gone, and the watch may have reported that already.
        if (item.Metadata is { DeletionTimestamp: not null, Finalizers: null or { Count: 0 } })
            return;
        ObjectKey key = ObjectKey.Of(item);
        T? before = Find(key);
        if (before is not null && !IsNewer(item, before))
            return;
        _items[key] = item;
        Learned?.Invoke(key, item);
    }

    private async Task<string> Relist(CancellationToken stop)
    {
        ResourceList<T> list = await api.List(type, ns, labels, stop).ConfigureAwait(false);
        HashSet<ObjectKey> present = [];
        foreach (T item in list.Items)
        {
            present.Add(ObjectKey.Of(item));
            Set(item);
        }
        foreach (ObjectKey key in _items.Keys.Where(k => !present.Contains(k)).ToList())
            Remove(key);
        _synced.TrySetResult();
        return list.Metadata.ResourceVersion ?? "0";
    }

    private void Apply(WatchEvent<T> e)
    {
        if (e.Type == "DELETED")
            Remove(ObjectKey.Of(e.Item));
        // If the watch delivers a version older than the answer to our own write, nothing has changed.
        else if (e.Type is "ADDED" or "MODIFIED" && (Find(ObjectKey.Of(e.Item)) is not { } known || !IsNewer(known, e.Item)))
            Set(e.Item);
    }

    private void Set(T item)
    {
        ObjectKey key = ObjectKey.Of(item);
        T? before = Find(key);
        _items[key] = item;
        // A duplicate (the server may send one) is not a change.
        if (before?.Metadata.ResourceVersion != item.Metadata.ResourceVersion || before is null)
            _changed?.Invoke(key, before, item);
    }

    private void Remove(ObjectKey key)
    {
        if (_items.TryRemove(key, out T? before))
            _changed?.Invoke(key, before, null);
    }

    // Resource versions are opaque, but every API server allows comparing those of one kind as numbers (KEP-5504).
    private static bool IsNewer(T a, T b) =>
        ulong.TryParse(a.Metadata.ResourceVersion, out ulong x) && ulong.TryParse(b.Metadata.ResourceVersion, out ulong y) && x > y;
}
