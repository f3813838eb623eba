using Bgsnap.Crds.Client;
using Bgsnap.Crds.Controller;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Events;
using Bgsnap.Operator.Snapshots;
using k8s;
using k8s.Models;
using Microsoft.Extensions.Logging.Abstractions;

namespace Bgsnap.Operator.Tests.InMemory;

/// <summary>One life of the operator, wired as in SnapshotController, but with a queue that the test turns by hand.</summary>
internal sealed class OperatorInstance : IAsyncDisposable
{
    private const int Informers = 3;
    private static readonly TimeSpan AfterTrouble = TimeSpan.FromSeconds(1);
    private readonly World _world;
    private readonly CancellationTokenSource _stop = new(); // never disposed: a test may end the operator, and its world does so again
    private readonly Task _watching;
    private readonly SortedDictionary<string, (ObjectKey Key, DateTimeOffset At)> _due = new(StringComparer.Ordinal);
    private readonly Informer<VMBackgroundSnapshot> _snapshots;
    private readonly Informer<SnapshotTask> _tasks;
    private bool _resumed;

    internal OperatorInstance(World world)
    {
        _world = world;
        RecordingApi api = new(world.Api, world.Requests, (n, r) => world.Fault(n, r));
        _snapshots = new(world.Api, Resources.Snapshots, null, null, NullLogger.Instance, world.Clock);
        _tasks = new(world.Api, Resources.Tasks, null, null, NullLogger.Instance, world.Clock);
        Informer<PodSummary> carriers = new(world.Api, Resources.Pods, null, $"{Names.ManagedByLabel}={Names.ManagedBy}", NullLogger.Instance, world.Clock);
        Queue = new NodeQueue(world.Options.MaxConcurrentCaptures, k => Want(k, TimeSpan.Zero));
        SnapshotStore store = new(api, _snapshots, _tasks, carriers, world.Options);
        EventRecorder events = new(api, world.Clock, NullLogger<EventRecorder>.Instance);
        SnapshotRemoval removal = new(store, Queue, events, world.Options, world.Clock, NullLogger<SnapshotRemoval>.Instance);
        Reconciler = new SnapshotReconciler(store, Queue, removal, events, world.Options, world.Clock, NullLogger<SnapshotReconciler>.Instance);
        Orphans = new Orphans(api, _snapshots, _tasks, carriers, NullLogger<Orphans>.Instance);
        _snapshots.Changed += (key, _, _) => Want(key, TimeSpan.Zero);
        _tasks.Changed += (_, before, after) => WantOwner((after ?? before)!);
        carriers.Changed += (_, before, after) => WantOwner((after ?? before)!);
        _watching = Task.WhenAll(_snapshots.Run(_stop.Token), _tasks.Run(_stop.Token), carriers.Run(_stop.Token));
    }

    internal NodeQueue Queue { get; }
    internal SnapshotReconciler Reconciler { get; }
    internal Orphans Orphans { get; }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _watching;
    }

    /// <summary>Reconciles whatever is due until nothing is; each key may fail once in between.</summary>
    internal async Task Drain()
    {
        await Settle();
        if (!_resumed)
        {
            _resumed = true;
            SnapshotController.ResumeQueue(Queue, _tasks.Items, _snapshots.Items);
        }
        for (int i = 0; ; i++)
        {
            if (Next() is not { } key) return;
            Assert.True(i < 1000, $"the operator does not come to rest over {key}");
            await Reconcile(key);
            await Settle();
        }
    }

    private async Task Reconcile(ObjectKey key)
    {
        try
        {
            if (await Reconciler.Reconcile(key, default) is { } again) Want(key, again);
        }
        catch (Exception e) when (e is HttpRequestException or ApiException)
        {
            _world.Problems.Add(e);
            Want(key, AfterTrouble);
        }
    }

    /// <summary>Waits until the informers have dealt with everything that happened.</summary>
    internal async Task Settle()
    {
        SpinWait spin = default;
        for (int i = 0; !_world.Api.HasTold(Informers); i++)
        {
            Assert.False(_watching.IsCompleted, "a watch has ended");
            Assert.True(i < 100_000, "the informers do not come to rest");
            if (i < 20) spin.SpinOnce(-1);
            else await Task.Delay(1);
        }
    }

    private void WantOwner(IKubernetesObject<V1ObjectMeta> item)
    {
        if (item.Metadata.OwnerReferences?.FirstOrDefault(o => o.Kind == VMBackgroundSnapshot.KubeKind) is { } owner)
            Want(new ObjectKey(item.Metadata.NamespaceProperty, owner.Name), TimeSpan.Zero);
    }

    private void Want(ObjectKey key, TimeSpan after)
    {
        DateTimeOffset at = _world.Clock.GetUtcNow() + after;
        lock (_due)
            if (!_due.TryGetValue(key.ToString(), out var known) || known.At > at) _due[key.ToString()] = (key, at);
    }

    private ObjectKey? Next()
    {
        lock (_due)
        {
            foreach ((string name, (ObjectKey key, DateTimeOffset at)) in _due)
            {
                if (at > _world.Clock.GetUtcNow()) continue;
                _due.Remove(name);
                return key;
            }
            return null;
        }
    }
}
