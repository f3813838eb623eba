using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Operator.Events;
using Bgsnap.Operator.Restores;
using Bgsnap.Operator.Schedules;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.Snapshots;
using Microsoft.Extensions.Logging.Abstractions;

namespace Bgsnap.Operator.Tests.InMemory;

/// <summary>One run of the operator, connected as in LeadingService, but with a queue that the test drives.</summary>
internal sealed class OperatorInstance : IAsyncDisposable
{
    private static readonly TimeSpan AfterTrouble = TimeSpan.FromSeconds(1);

    // An informer handles a change within milliseconds: only one that hangs takes so long.
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);
    private readonly World _world;
    private readonly CancellationTokenSource _stop = new(); // never disposed: a test may stop the operator, and its world stops it again
    private readonly Task _watching;
    private readonly SortedDictionary<string, (IReconciler Who, ObjectKey Key, DateTimeOffset At)> _due = new(StringComparer.Ordinal);
    private readonly SharedInformers _shared;
    private bool _resumed;

    internal OperatorInstance(World world)
    {
        _world = world;
        RecordingApi api = new(world.Api, world.Requests, (n, r) => world.Fault(n, r));
        _shared = new SharedInformers(world.Api, NullLogger.Instance, world.Clock);
        EventRecorder events = new(api, world.Clock, NullLogger<EventRecorder>.Instance);
        Queue = new NodeQueue(world.Options.MaxConcurrentCaptures, k => Want(Reconciler!, k, TimeSpan.Zero));
        SnapshotStore store = new(api, _shared.Snapshots, _shared.Tasks, _shared.Carriers, world.Options);
        SnapshotRemoval removal = new(store, Queue, events, world.Options, world.Clock, NullLogger<SnapshotRemoval>.Instance);
        Reconciler = new SnapshotReconciler(
            store,
            Queue,
            removal,
            events,
            world.Options,
            world.Clock,
            NullLogger<SnapshotReconciler>.Instance
        );
        RestoreQueue = new NodeQueue(world.Options.MaxConcurrentRestores, k => Want(Restores!, k, TimeSpan.Zero));
        Restores = RestoreReconciler.Wire(api, _shared, RestoreQueue, events, world.Options, world.Clock, NullLoggerFactory.Instance);
        Schedules = new ScheduleReconciler(new ScheduleStore(api, _shared), events, world.Clock, NullLogger<ScheduleReconciler>.Instance);
        Orphans = new Orphans(api, _shared, NullLogger<Orphans>.Instance);
        SnapshotController.Watch(_shared, k => Want(Reconciler, k, TimeSpan.Zero));
        ScheduleController.Watch(_shared, k => Want(Schedules, k, TimeSpan.Zero));
        RestoreController.Watch(_shared, k => Want(Restores, k, TimeSpan.Zero));
        _watching = _shared.Run(_stop.Token);
    }

    internal ScheduleReconciler Schedules { get; }
    internal NodeQueue RestoreQueue { get; }
    internal RestoreReconciler Restores { get; }
    internal NodeQueue Queue { get; }
    internal SnapshotReconciler Reconciler { get; }
    internal Orphans Orphans { get; }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _watching;
    }

    /// <summary>Reconciles until nothing is due; each key may fail once in between.</summary>
    internal async Task Drain()
    {
        await Settle();
        if (!_resumed)
        {
            _resumed = true;
            SnapshotController.ResumeQueue(Queue, _shared.Tasks.Items, _shared.Snapshots.Items);
            RestoreController.ResumeQueue(RestoreQueue, _shared.Tasks.Items, _shared.Restores.Items);
        }
        for (int i = 0; ; i++)
        {
            if (Next() is not { } next)
                return;
            Assert.True(i < 1000, $"the operator does not come to rest over {next.Key}");
            await Reconcile(next.Who, next.Key);
            await Settle();
        }
    }

    private async Task Reconcile(IReconciler who, ObjectKey key)
    {
        try
        {
            if (await who.Reconcile(key, default) is { } again)
                Want(who, key, again);
        }
        catch (Exception e) when (e is HttpRequestException or ApiException)
        {
            _world.Problems.Add(e);
            Want(who, key, AfterTrouble);
        }
    }

    /// <summary>Waits until the informers have handled every change.</summary>
    internal async Task Settle()
    {
        while (!_world.Api.HasTold(SharedInformers.Count, out Task progress))
        {
            Assert.False(_watching.IsCompleted, "a watch has ended");
            await Task.WhenAny(progress, _watching).WaitAsync(Patience);
        }
    }

    private void Want(IReconciler who, ObjectKey key, TimeSpan after)
    {
        DateTimeOffset at = _world.Clock.GetUtcNow() + after;
        string name = $"{who.GetType().Name} {key}";
        lock (_due)
            if (!_due.TryGetValue(name, out var known) || known.At > at)
                _due[name] = (who, key, at);
    }

    private (IReconciler Who, ObjectKey Key)? Next()
    {
        lock (_due)
        {
            foreach ((string name, (IReconciler who, ObjectKey key, DateTimeOffset at)) in _due)
            {
                if (at > _world.Clock.GetUtcNow())
                    continue;
                _due.Remove(name);
                return (who, key);
            }
            return null;
        }
    }
}
