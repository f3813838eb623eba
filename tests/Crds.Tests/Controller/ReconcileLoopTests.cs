using System.Collections.Concurrent;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace Bgsnap.Crds.Tests.Controller;

public sealed class ReconcileLoopTests
{
    private static readonly ObjectKey Key = new("ns", "a");
    private readonly string _name = Guid.NewGuid().ToString("N"); // metrics are of the process: each test has its own

    [Fact]
    public async Task An_error_is_tried_again_after_a_pause_and_counted()
    {
        ConcurrentQueue<DateTime> calls = [];
        await Run(
            _ =>
            {
                calls.Enqueue(DateTime.UtcNow);
                return calls.Count < 3 ? throw new InvalidOperationException("not yet") : Task.FromResult<TimeSpan?>(null);
            },
            () => calls.Count == 3
        );
        DateTime[] at = [.. calls];
        Assert.True(at[1] - at[0] >= TimeSpan.FromMilliseconds(155), $"after {at[1] - at[0]}");
        Assert.True(at[2] - at[1] >= TimeSpan.FromMilliseconds(315), $"after {at[2] - at[1]}");
        Assert.Equal(2, RuntimeMetrics.Errors.WithLabels(_name).Value);
        Assert.Equal(2, RuntimeMetrics.Total.WithLabels(_name, "error").Value);
    }

    [Fact]
    public async Task A_conflict_is_tried_again_and_is_no_error()
    {
        int calls = 0;
        await Run(
            _ => ++calls == 1 ? throw new ApiException(409, "Conflict", "the object has been modified") : Task.FromResult<TimeSpan?>(null),
            () => calls == 2
        );
        Assert.Equal(0, RuntimeMetrics.Errors.WithLabels(_name).Value);
        Assert.Equal(1, RuntimeMetrics.Total.WithLabels(_name, "conflict").Value);
    }

    [Fact]
    public async Task Success_ends_the_growth_of_pauses()
    {
        ConcurrentQueue<DateTime> calls = [];
        await Run(
            _ =>
            {
                calls.Enqueue(DateTime.UtcNow);
                return calls.Count switch
                {
                    <= 3 or 5 => throw new HttpRequestException("connection refused"),
                    4 => Task.FromResult<TimeSpan?>(TimeSpan.FromMilliseconds(1)),
                    _ => Task.FromResult<TimeSpan?>(null),
                };
            },
            () => calls.Count == 6
        );
        DateTime[] at = [.. calls];
        Assert.True(at[3] - at[2] > at[5] - at[4], "the pause after the fifth call is that of a first failure");
    }

    [Fact]
    public async Task It_looks_again_when_the_reconciler_says_so()
    {
        int calls = 0;
        await Run(_ => Task.FromResult<TimeSpan?>(++calls < 3 ? TimeSpan.FromMilliseconds(10) : null), () => calls == 3);
        Assert.Equal(3, calls);
    }

    [Fact]
    public async Task Different_keys_are_worked_on_side_by_side()
    {
        using WorkQueue queue = new();
        for (int i = 0; i < 4; i++)
            queue.Add(new ObjectKey("ns", "k" + i));
        using CancellationTokenSource stop = new();
        using Barrier all = new(4);
        int met = 0;
        Task run = Loop(queue, async _ =>
            {
                await Task.Yield();
                if (all.SignalAndWait(TimeSpan.FromSeconds(10)))
                    Interlocked.Increment(ref met);
                return null;
            })
            .Run(stop.Token);
        await Samples.Within(() => met == 4, "all four at once");
        await stop.CancelAsync();
        await run;
    }

    [Fact]
    public async Task Stopping_finishes_what_is_in_hand_and_begins_nothing_else()
    {
        using WorkQueue queue = new();
        using CancellationTokenSource stop = new();
        TaskCompletionSource begun = new(),
            mayEnd = new();
        List<ObjectKey> finished = [];
        queue.Add(Key);
        queue.Add(new ObjectKey("ns", "later"));
        Task run = new ReconcileLoop(
            _name,
            queue,
            new Reconciler(async k =>
            {
                begun.SetResult();
                await mayEnd.Task;
                finished.Add(k);
                return null;
            }),
            1,
            NullLogger.Instance
        ).Run(stop.Token);
        await begun.Task;
        await stop.CancelAsync();
        await Task.Delay(30);
        Assert.False(run.IsCompleted);
        mayEnd.SetResult();
        await run.WaitAsync(TimeSpan.FromSeconds(5));
        Assert.Equal([Key], finished);
    }

    [Fact]
    public async Task Work_that_obeys_the_stop_is_neither_an_error_nor_tried_again()
    {
        using WorkQueue queue = new();
        using CancellationTokenSource stop = new();
        TaskCompletionSource begun = new();
        queue.Add(Key);
        Task run = new ReconcileLoop(
            _name,
            queue,
            new Reconciler(async _ =>
            {
                begun.SetResult();
                await Task.Delay(Timeout.Infinite, stop.Token);
                return null;
            }),
            1,
            NullLogger.Instance
        ).Run(stop.Token);
        await begun.Task;
        await stop.CancelAsync();
        await run.WaitAsync(TimeSpan.FromSeconds(5));
        Assert.Equal(0, RuntimeMetrics.Errors.WithLabels(_name).Value);
        Assert.Equal(1, RuntimeMetrics.Total.WithLabels(_name, "stopped").Value);
    }

    [Fact]
    public async Task Trouble_with_the_server_is_logged_without_a_stack_and_a_fault_of_ours_with_one()
    {
        ListLog log = new();
        int calls = 0;
        using WorkQueue queue = new();
        using CancellationTokenSource stop = new();
        queue.Add(Key);
        Task run = new ReconcileLoop(
            _name,
            queue,
            new Reconciler(_ =>
                ++calls switch
                {
                    1 => throw new HttpRequestException("connection refused"),
                    2 => throw new InvalidOperationException("a fault"),
                    _ => Task.FromResult<TimeSpan?>(null),
                }
            ),
            1,
            log
        ).Run(stop.Token);
        await Samples.Within(() => calls == 3, "three calls");
        await stop.CancelAsync();
        await run;
        Assert.Equal([null, typeof(InvalidOperationException)], log.Written.Select(e => e?.GetType()));
    }

    private async Task Run(Func<ObjectKey, Task<TimeSpan?>> reconcile, Func<bool> until)
    {
        using WorkQueue queue = new();
        using CancellationTokenSource stop = new();
        queue.Add(Key);
        Task run = Loop(queue, reconcile).Run(stop.Token);
        await Samples.Within(until, "called as often as expected");
        await Task.Delay(30);
        Assert.True(until(), "called no more");
        await stop.CancelAsync();
        await run.WaitAsync(TimeSpan.FromSeconds(5));
    }

    private ReconcileLoop Loop(WorkQueue queue, Func<ObjectKey, Task<TimeSpan?>> reconcile) =>
        new(_name, queue, new Reconciler(reconcile), 4, NullLogger.Instance);

    private sealed class Reconciler(Func<ObjectKey, Task<TimeSpan?>> reconcile) : IReconciler
    {
        public Task<TimeSpan?> Reconcile(ObjectKey key, CancellationToken stop) => reconcile(key);
    }

    private sealed class ListLog : ILogger
    {
        internal List<Exception?> Written { get; } = [];

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(
            LogLevel logLevel,
            EventId eventId,
            TState state,
            Exception? exception,
            Func<TState, Exception?, string> formatter
        ) => Written.Add(exception);
    }
}
