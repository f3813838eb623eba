using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using static Bgsnap.Crds.Tests.Samples;

namespace Bgsnap.Crds.Tests.Controller;

public sealed class InformerTests
{
    private readonly ScriptedApi _api = new();
    private readonly CountingClock _clock = new();
    private readonly List<string> _changes = [];

    [Fact]
    public async Task The_first_list_is_told_and_ends_the_wait()
    {
        _api.ThenList("5", Task("a", "3"), Task("b", "4")).ThenWatchOn();
        await Run(async i =>
        {
            await i.Synced.WaitAsync(TimeSpan.FromSeconds(10));
            Assert.Equal(["+a@3", "+b@4"], Changes());
            Assert.Equal("3", i.Find(new ObjectKey("ns", "a"))!.Metadata.ResourceVersion);
            await Asked("list", "watch 5");
        });
    }

    [Fact]
    public async Task Before_the_first_list_nobody_is_told_that_all_is_known()
    {
        _api.ThenFail(new HttpRequestException("connection refused"));
        await Run(async i =>
        {
            await Asked("list");
            Assert.False(i.Synced.IsCompleted);
            _api.ThenList("5", Task("a", "3")).ThenWatchOn();
            await Passing(() => i.Synced.IsCompleted);
        });
    }

    [Fact]
    public async Task Added_modified_and_deleted_are_told_with_before_and_after()
    {
        _api.ThenList("5", Task("a", "3"))
            .ThenWatchOn(Line("ADDED", Task("b", "6")), Line("MODIFIED", Task("a", "7")), Line("DELETED", Task("b", "8")));
        await Run(async i =>
        {
            await Within(() => Changes().Count == 4, "four changes");
            Assert.Equal(["+a@3", "+b@6", "a@3>7", "-b@6"], Changes());
            Assert.Equal("a", Assert.Single(i.Items).Metadata.Name);
        });
    }

    [Fact]
    public async Task A_bookmark_moves_the_version_and_changes_nothing()
    {
        _api.ThenList("5", Task("a", "3")).ThenWatch(Bookmark("90")).ThenWatchOn();
        await Run(async _ =>
        {
            await Passing(() => Asked().Count == 3);
            Assert.Equal(["list", "watch 5", "watch 90"], Asked());
            Assert.Equal(["+a@3"], Changes());
        });
    }

    [Fact]
    public async Task Version_too_old_as_a_line_leads_to_another_list_at_once()
    {
        _api.ThenList("5", Task("a", "3")).ThenWatch(Gone).ThenList("99", Task("a", "3"), Task("b", "98")).ThenWatchOn();
        await Run(async _ =>
        {
            await Asked("list", "watch 5", "list", "watch 99"); // the clock stands still
            Assert.Equal(["+a@3", "+b@98"], Changes());
        });
    }

    [Fact]
    public async Task Version_too_old_as_an_answer_leads_to_another_list_at_once()
    {
        _api.ThenList("5").ThenFail(new ApiException(410, "Expired", "too old")).ThenList("99").ThenWatchOn();
        await Run(_ => Asked("list", "watch 5", "list", "watch 99"));
    }

    [Fact]
    public async Task A_server_for_which_every_version_is_too_old_is_not_asked_without_pause()
    {
        for (int i = 0; i < 20; i++)
            _api.ThenList("5").ThenWatch(Gone);
        await Run(async _ =>
        {
            await Asked("list", "watch 5", "list", "watch 5");
            await System.Threading.Tasks.Task.Delay(50);
            Assert.Equal(4, Asked().Count);
            await Passing(() => Asked().Count == 6);
        });
    }

    [Fact]
    public async Task A_clean_end_goes_on_from_the_last_version_after_a_moment()
    {
        _api.ThenList("5").ThenWatch(Line("ADDED", Task("a", "7"))).ThenWatch(Line("ADDED", Task("b", "9"))).ThenWatchOn();
        await Run(async _ =>
        {
            await Asked("list", "watch 5");
            await Passing(() => Asked().Count == 4);
            Assert.Equal(["list", "watch 5", "watch 7", "watch 9"], Asked());
        });
    }

    public static TheoryData<Exception> Resets =>
        [
            new HttpRequestException("reset"),
            new IOException("reset"),
            new OperationCanceledException("silent too long"),
            new TimeoutException("timeout"),
        ];

    [Theory]
    [MemberData(nameof(Resets))]
    public async Task A_reset_waits_and_goes_on_from_the_last_version(Exception reset)
    {
        _api.ThenList("5").ThenWatch(Line("ADDED", Task("a", "7")), reset).ThenWatchOn(Line("MODIFIED", Task("a", "8")));
        await Run(async _ =>
        {
            await Within(() => Changes().Count == 1, "the first change");
            await System.Threading.Tasks.Task.Delay(20);
            Assert.Equal(["list", "watch 5"], Asked());
            await Passing(() => Changes().Count == 2);
            Assert.Equal(["list", "watch 5", "watch 7"], Asked());
        });
    }

    [Fact]
    public async Task Pauses_grow_while_nothing_works_and_end_with_the_first_event()
    {
        for (int i = 0; i < 5; i++)
            _api.ThenFail(new HttpRequestException("connection refused"));
        await Run(async _ =>
        {
            TimeSpan[] least = [.. new[] { 200, 400, 800, 1600, 3200 }.Select(ms => TimeSpan.FromMilliseconds(ms))];
            for (int i = 0; i < least.Length; i++)
            {
                await Within(() => Asked().Count == i + 1 && _clock.Timers == i + 1, "the next list");
                _clock.Advance(least[i] - TimeSpan.FromMilliseconds(1));
                await System.Threading.Tasks.Task.Delay(20);
                Assert.Equal(i + 1, Asked().Count);
                if (i == least.Length - 1)
                    _api.ThenList("5").ThenWatch(Line("ADDED", Task("a", "7")), new IOException("reset")).ThenWatchOn();
                _clock.Advance(least[i] / 4 + TimeSpan.FromMilliseconds(2)); // up to 1.25 times the least
            }
            await Within(() => Asked().Count == 7 && _clock.Timers == 6, "list and watch");
            _clock.Advance(TimeSpan.FromMilliseconds(251)); // as after a first failure
            await Within(() => Asked().Count == 8, "the next watch");
        });
    }

    [Fact]
    public async Task A_refusal_leads_to_another_list()
    {
        _api.ThenList("5")
            .ThenFail(new ApiException(500, "InternalError", "resourceVersion 5 is in the future"))
            .ThenList("2")
            .ThenWatchOn();
        await Run(async _ =>
        {
            await Passing(() => Asked().Count == 4);
            Assert.Equal(["list", "watch 5", "list", "watch 2"], Asked());
        });
    }

    [Fact]
    public async Task Deletions_that_nobody_saw_are_found_by_the_next_list()
    {
        _api.ThenList("5", Task("a", "3"), Task("b", "4")).ThenWatch(Gone).ThenList("99", Task("b", "50")).ThenWatchOn();
        await Run(async i =>
        {
            await Asked("list", "watch 5", "list", "watch 99");
            Assert.Equal(["+a@3", "+b@4", "b@4>50", "-a@3"], Changes());
            Assert.Single(i.Items);
        });
    }

    [Fact]
    public async Task Duplicates_are_no_change()
    {
        _api.ThenList("5", Task("a", "3"))
            .ThenWatch(Line("ADDED", Task("a", "3")), Gone)
            .ThenList("5", Task("a", "3"))
            .ThenWatchOn(Line("MODIFIED", Task("a", "6")));
        await Run(async _ =>
        {
            await Within(() => Changes().Contains("a@3>6"), "the one change");
            Assert.Equal(["+a@3", "a@3>6"], Changes());
        });
    }

    [Fact]
    public async Task A_line_that_was_cut_off_is_a_reset()
    {
        string whole = Line("ADDED", Task("b", "9"));
        _api.ThenList("5").ThenWatch(Line("ADDED", Task("a", "7")), whole[..^20]).ThenWatchOn(whole);
        await Run(async _ =>
        {
            await Passing(() => Changes().Count == 2);
            Assert.Equal(["list", "watch 5", "watch 7"], Asked());
            Assert.Equal(["+a@7", "+b@9"], Changes());
        });
    }

    [Fact]
    public async Task What_a_write_answered_is_kept_until_something_newer_comes()
    {
        _api.ThenList("5", Task("a", "3")).ThenWatchOn();
        await Run(async i =>
        {
            await i.Synced;
            i.Learn(Task("a", "10"));
            i.Learn(Task("a", "9"));
            i.Learn(Task("new", "11"));
            Assert.Equal("10", i.Find(new ObjectKey("ns", "a"))!.Metadata.ResourceVersion);
            Assert.Equal("11", i.Find(new ObjectKey("ns", "new"))!.Metadata.ResourceVersion);
        });
    }

    [Fact]
    public async Task What_the_watch_tells_late_is_no_news()
    {
        TaskCompletionSource learned = new();
        _api.ThenList("5", Task("a", "3"))
            .ThenWatch(Bookmark("5"))
            .ThenWatchOn(Line("MODIFIED", Task("a", "8")), Line("MODIFIED", Task("a", "10")), Line("MODIFIED", Task("a", "12")));
        await Run(async i =>
        {
            await i.Synced;
            i.Learn(Task("a", "10"));
            await Passing(() => Changes().Count == 2);
            Assert.Equal(["+a@3", "a@10>12"], Changes());
        });
    }

    [Fact]
    public async Task An_object_whose_last_finalizer_went_is_not_kept()
    {
        _api.ThenList("5", Task("a", "3")).ThenWatchOn(Line("DELETED", Task("a", "9")));
        await Run(async i =>
        {
            await Within(() => Changes().Count == 2, "the deletion");
            SnapshotTask gone = Task("a", "9");
            gone.Metadata.DeletionTimestamp = DateTime.UtcNow;
            i.Learn(gone);
            Assert.Empty(i.Items);
        });
    }

    [Fact]
    public async Task Cancellation_ends_it_wherever_it_is()
    {
        foreach (
            ScriptedApi api in new[]
            {
                new ScriptedApi(),
                new ScriptedApi().ThenList("5"),
                new ScriptedApi().ThenList("5").ThenWatchOn(),
                new ScriptedApi().ThenFail(new IOException()),
                new ScriptedApi().ThenList("5").ThenWatch(),
            }
        )
        {
            using CancellationTokenSource stop = new();
            Task run = new Informer<SnapshotTask>(api, Resources.Tasks, null, null, NullLogger.Instance, _clock).Run(stop.Token);
            await System.Threading.Tasks.Task.Delay(30);
            Assert.False(run.IsCompleted);
            await stop.CancelAsync();
            await run.WaitAsync(TimeSpan.FromSeconds(5));
        }
    }

    private async Task Run(Func<Informer<SnapshotTask>, Task> test)
    {
        Informer<SnapshotTask> informer = new(_api, Resources.Tasks, null, null, NullLogger.Instance, _clock);
        informer.Changed += (key, before, after) =>
        {
            lock (_changes)
                _changes.Add(
                    before is null ? $"+{key.Name}@{after!.Metadata.ResourceVersion}"
                    : after is null ? $"-{key.Name}@{before.Metadata.ResourceVersion}"
                    : $"{key.Name}@{before.Metadata.ResourceVersion}>{after.Metadata.ResourceVersion}"
                );
        };
        using CancellationTokenSource stop = new();
        Task run = informer.Run(stop.Token);
        try
        {
            await test(informer);
        }
        finally
        {
            await stop.CancelAsync();
            await run.WaitAsync(TimeSpan.FromSeconds(5));
        }
    }

    private List<string> Changes()
    {
        lock (_changes)
            return [.. _changes];
    }

    private List<string> Asked()
    {
        lock (_api.Asked)
            return [.. _api.Asked];
    }

    /// <summary>Waits for these requests, without time passing.</summary>
    private async Task Asked(params string[] requests)
    {
        await Within(() => Asked().Count >= requests.Length, $"asked {string.Join(", ", requests)}");
        Assert.Equal(requests, Asked().Take(requests.Length));
    }

    /// <summary>Waits while time passes.</summary>
    private Task Passing(Func<bool> condition) =>
        Within(
            () =>
            {
                if (condition())
                    return true;
                _clock.Advance(TimeSpan.FromMilliseconds(100));
                return false;
            },
            "as expected"
        );

    /// <summary>Counts who waits for it.</summary>
    private sealed class CountingClock : FakeTimeProvider
    {
        private int _timers;

        internal int Timers => Volatile.Read(ref _timers);

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            ITimer timer = base.CreateTimer(callback, state, dueTime, period);
            Interlocked.Increment(ref _timers);
            return timer;
        }
    }
}
