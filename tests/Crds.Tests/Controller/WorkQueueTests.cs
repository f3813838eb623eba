using System.Collections.Concurrent;
using Bgsnap.ControllerRuntime.Controller;
using Microsoft.Extensions.Time.Testing;

namespace Bgsnap.Crds.Tests.Controller;

public sealed class WorkQueueTests : IDisposable
{
    private static readonly ObjectKey A = new("ns", "a"),
        B = new("ns", "b");
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(10);
    private readonly FakeTimeProvider _clock = new();
    private readonly WorkQueue _queue;

    public WorkQueueTests() => _queue = new WorkQueue(_clock);

    public void Dispose() => _queue.Dispose();

    [Fact]
    public async Task A_key_is_in_it_once()
    {
        _queue.Add(A);
        _queue.Add(B);
        _queue.Add(A);
        Assert.Equal(2, _queue.Depth);
        Assert.Equal(A, await Take());
        Assert.Equal(B, await Take());
        await Empty();
    }

    [Fact]
    public async Task A_key_that_is_added_while_taken_comes_again_when_done_and_not_before()
    {
        _queue.Add(A);
        await Take();
        _queue.Add(A);
        _queue.Add(A);
        await Empty();
        _queue.Done(A);
        Assert.Equal(A, await Take());
        _queue.Done(A);
        await Empty();
    }

    [Fact]
    public async Task A_delayed_key_comes_when_it_is_due()
    {
        _queue.AddAfter(A, TimeSpan.FromSeconds(5));
        Task<ObjectKey> take = Take();
        await Passed(TimeSpan.FromSeconds(4.9));
        Assert.False(take.IsCompleted);
        await Passed(TimeSpan.FromSeconds(0.2));
        Assert.Equal(A, await take);
    }

    [Fact]
    public async Task An_earlier_key_overtakes_a_worker_that_waits_for_a_later_one()
    {
        _queue.AddAfter(A, TimeSpan.FromSeconds(50));
        Task<ObjectKey> take = Take();
        await Passed(TimeSpan.FromSeconds(1));
        _queue.AddAfter(B, TimeSpan.FromSeconds(5));
        await Passed(TimeSpan.Zero);
        await Passed(TimeSpan.FromSeconds(5));
        Assert.Equal(B, await take);
    }

    [Fact]
    public async Task Of_several_times_for_a_key_the_earliest_counts_and_no_other()
    {
        _queue.AddAfter(A, TimeSpan.FromSeconds(30));
        _queue.AddAfter(A, TimeSpan.FromSeconds(10));
        _queue.AddAfter(A, TimeSpan.FromSeconds(20));
        _clock.Advance(TimeSpan.FromSeconds(10));
        Assert.Equal(A, await Take());
        _queue.Done(A);
        _clock.Advance(TimeSpan.FromSeconds(60));
        await Empty();
    }

    [Fact]
    public async Task Looking_again_each_time_does_not_multiply_the_looks()
    {
        // As a reconciler does that answers "again in 10 s" to every one of many changes.
        for (int i = 0; i < 100; i++)
        {
            _queue.Add(A);
            await Take();
            _queue.AddAfter(A, TimeSpan.FromSeconds(10));
            _queue.Done(A);
            _clock.Advance(TimeSpan.FromMilliseconds(50));
        }
        int looks = 0;
        for (int second = 0; second < 60; second++)
        {
            _clock.Advance(TimeSpan.FromSeconds(1));
            while (await TryTake() is { } key)
            {
                looks++;
                _queue.AddAfter(key, TimeSpan.FromSeconds(10));
                _queue.Done(key);
            }
        }
        Assert.InRange(looks, 5, 7);
    }

    [Fact]
    public async Task A_delayed_key_that_is_taken_when_due_comes_when_done()
    {
        _queue.Add(A);
        await Take();
        _queue.AddAfter(A, TimeSpan.FromSeconds(1));
        _clock.Advance(TimeSpan.FromSeconds(2));
        await Empty();
        _queue.Done(A);
        Assert.Equal(A, await Take());
    }

    [Fact]
    public void Failures_wait_longer_each_time_each_key_for_itself_and_are_forgotten()
    {
        double[] full = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 120, 120];
        foreach (double seconds in full)
            Assert.InRange(_queue.AddAfterFailure(A).TotalSeconds, seconds * 0.8, seconds);
        Assert.InRange(_queue.AddAfterFailure(B).TotalSeconds, 0.16, 0.2);
        _queue.Forget(A);
        Assert.InRange(_queue.AddAfterFailure(A).TotalSeconds, 0.16, 0.2);
    }

    [Fact]
    public async Task A_delayed_key_is_served_even_if_the_worker_that_waited_for_it_is_busy()
    {
        using WorkQueue queue = new();
        Task<ObjectKey> first = queue.Take(default),
            second = queue.Take(default);
        queue.AddAfter(B, TimeSpan.FromSeconds(3));
        await Task.Delay(50); // one of the two waits for the clock now, and much longer than a busy host holds this test up
        queue.Add(A);
        ObjectKey a = await (await Task.WhenAny(first, second)).WaitAsync(Soon);
        Assert.Equal(A, a); // and is never done
        Assert.Equal(B, (await Task.WhenAll(first, second).WaitAsync(Soon)).Single(k => k != A));
    }

    [Fact]
    public async Task Keys_that_are_due_together_are_served_side_by_side()
    {
        using WorkQueue queue = new();
        ConcurrentBag<ObjectKey> taken = [];
        using CancellationTokenSource stop = new();
        // None of the workers is ever done.
        Task[] workers = [.. Enumerable.Range(0, 8).Select(_ => Task.Run(async () => taken.Add(await queue.Take(stop.Token))))];
        await Task.Delay(50);
        for (int i = 0; i < 8; i++)
            queue.AddAfter(new ObjectKey("ns", "k" + i), TimeSpan.FromMilliseconds(100));
        await Task.WhenAll(workers).WaitAsync(Soon);
        Assert.Equal(8, taken.Distinct().Count());
    }

    // Two workers have looked at the queue, found nothing, and do not wait for the signal yet when two keys come: there is one signal
    // for both, and whoever takes it must wake the other.
    [Fact]
    public async Task Who_takes_a_key_wakes_the_next_worker_for_the_one_that_is_left()
    {
        using HeldClock clock = new(workers: 2);
        using WorkQueue queue = new(clock);
        queue.AddAfter(new ObjectKey("ns", "much later"), TimeSpan.FromHours(1)); // so that a worker sets a timer before it waits
        Task<ObjectKey>[] workers = [Task.Run(() => queue.Take(default)), Task.Run(() => queue.Take(default))];
        clock.AllHeld.Wait();
        queue.Add(A);
        queue.Add(B);
        clock.LetGo.Set();
        ObjectKey[] taken = await Task.WhenAll(workers).WaitAsync(Soon);
        Assert.Equal([A, B], taken.OrderBy(k => k.Name)); // though neither is ever done
    }

    [Fact]
    public async Task Cancellation_ends_the_wait()
    {
        using CancellationTokenSource stop = new();
        Task<ObjectKey> take = _queue.Take(stop.Token);
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => take.WaitAsync(Soon));
    }

    [Fact]
    public async Task Under_load_no_key_is_lost_and_none_is_with_two_workers()
    {
        const int Keys = 200,
            Rounds = 100,
            Workers = 16;
        using WorkQueue queue = new();
        int[] wanted = new int[Keys],
            seen = new int[Keys],
            inHand = new int[Keys];
        int doubled = 0;
        using CancellationTokenSource stop = new();
        Task[] workers =
        [
            .. Enumerable
                .Range(0, Workers)
                .Select(w =>
                    Task.Run(async () =>
                    {
                        Random random = new(w);
                        try
                        {
                            while (true)
                            {
                                ObjectKey key = await queue.Take(stop.Token);
                                int k = int.Parse(key.Name);
                                if (Interlocked.Increment(ref inHand[k]) != 1)
                                    Interlocked.Increment(ref doubled);
                                // What was wanted before it was taken has been seen.
                                Volatile.Write(ref seen[k], Volatile.Read(ref wanted[k]));
                                if (random.Next(4) == 0)
                                    await Task.Yield();
                                Interlocked.Decrement(ref inHand[k]);
                                if (random.Next(8) == 0)
                                    queue.AddAfterFailure(key);
                                else
                                    queue.Forget(key);
                                queue.Done(key);
                            }
                        }
                        catch (OperationCanceledException) { }
                    })
                ),
        ];
        await Task.WhenAll(
            Enumerable
                .Range(0, 4)
                .Select(p =>
                    Task.Run(() =>
                    {
                        Random random = new(1000 + p);
                        for (int i = 0; i < Keys * Rounds; i++)
                        {
                            int k = random.Next(Keys);
                            ObjectKey key = new("ns", $"{k}");
                            Interlocked.Increment(ref wanted[k]);
                            if (random.Next(3) == 0)
                                queue.AddAfter(key, TimeSpan.FromMilliseconds(random.Next(1, 20)));
                            else
                                queue.Add(key);
                        }
                    })
                )
        );
        await Samples.Within(
            () => Enumerable.Range(0, Keys).All(k => Volatile.Read(ref seen[k]) == Volatile.Read(ref wanted[k])),
            "every key seen after its last addition"
        );
        await stop.CancelAsync();
        await Task.WhenAll(workers);
        Assert.Equal(0, doubled);
    }

    /// <summary>A clock that holds the first workers between their look at the queue and their wait: there they set a timer.</summary>
    private sealed class HeldClock(int workers) : TimeProvider, IDisposable
    {
        private int _timers;

        internal CountdownEvent AllHeld { get; } = new(workers);
        internal ManualResetEventSlim LetGo { get; } = new();

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            if (Interlocked.Increment(ref _timers) <= workers)
            {
                AllHeld.Signal();
                LetGo.Wait();
            }
            return base.CreateTimer(callback, state, dueTime, period);
        }

        public void Dispose()
        {
            AllHeld.Dispose();
            LetGo.Dispose();
        }
    }

    private Task<ObjectKey> Take() => _queue.Take(default).WaitAsync(Soon);

    private async Task<ObjectKey?> TryTake()
    {
        using CancellationTokenSource stop = new();
        Task<ObjectKey> take = _queue.Take(stop.Token);
        if (take.IsCompleted)
            return await take;
        await stop.CancelAsync();
        await take.ContinueWith(_ => { }, TaskScheduler.Default);
        return null;
    }

    private async Task Empty() => Assert.Null(await TryTake());

    private async Task Passed(TimeSpan time)
    {
        await Task.Delay(20);
        _clock.Advance(time);
        await Task.Delay(20);
    }
}
