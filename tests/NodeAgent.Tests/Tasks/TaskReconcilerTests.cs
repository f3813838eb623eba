using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Tasks;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Extensions.Logging.Abstractions;

namespace Bgsnap.NodeAgent.Tests.Tasks;

/// <summary>A node's tasks from the watch to their end, including TaskWork, with a program that stands in for the capture.</summary>
public sealed class TaskReconcilerTests : IAsyncLifetime, IDisposable
{
    private const string Run = "run-2";
    private static readonly ObjectKey Key = new("ns", "t");
    private readonly FakeNode _node = new();
    private readonly CancellationTokenSource _end = new(),
        _stop = new();
    private Informer<SnapshotTask> _tasks = null!;
    private TaskReconciler _reconciler = null!;
    private Task _watching = Task.CompletedTask;

    public Task InitializeAsync()
    {
        _tasks = new(_node.Api, Resources.Tasks, null, null, NullLogger.Instance);
        _watching = _tasks.Run(_end.Token);
        _reconciler = new(
            _tasks,
            new TaskWork(_node.Places, new Scratch(null, null), _node.Program),
            new TaskReports(_node.Api, NullLogger.Instance),
            FakeNode.Name,
            Run,
            NullLogger<TaskReconciler>.Instance
        );
        return Task.CompletedTask;
    }

    public async Task DisposeAsync()
    {
        await _stop.CancelAsync();
        await _reconciler.Drain();
        await _end.CancelAsync();
        await _watching;
    }

    public void Dispose()
    {
        _stop.Dispose();
        _end.Dispose();
        _node.Dispose();
    }

    [Fact]
    public async Task A_capture_is_told_from_its_beginning_to_its_end()
    {
        _node.Capture(
            $$"""
            echo '{{FakeNode.Progress(40, "2026-08-01T09:00:00Z")}}'
            while [ ! -e "$here/go" ]; do sleep 0.05; done
            cp -r "$ready" "$out"
            echo '{{FakeNode.Summary}}'
            """
        );
        await See(FakeNode.CaptureTask());
        await FakeNode.Within(() => _node.Api.Told.Any(s => s.Percent == 40), "the progress is told");
        await _reconciler.Reconcile(Key, _stop.Token); // another reconcile starts nothing else
        Assert.Equal(1, _reconciler.Running);
        await File.WriteAllTextAsync(_node.Sign("go"), "");
        SnapshotTaskStatus end = await End();

        SnapshotTaskStatus begin = _node.Api.Told[0],
            half = _node.Api.Told.First(s => s.Percent == 40);
        Assert.Equal((TaskPhase.Running, Run, 0), (begin.Phase, begin.AgentRun, begin.Percent));
        Assert.Equal(
            (TaskPhase.Running, 40_000_000, new DateTime(2026, 8, 1, 9, 0, 0, DateTimeKind.Utc)),
            (half.Phase, half.Bytes, half.PointInTime)
        );
        Assert.Equal((TaskPhase.Succeeded, Run, 4600), (end.Phase, end.AgentRun, end.Result!.DowntimeMicroseconds));
        Assert.Equal(begin.StartTime, end.StartTime);
        Assert.True(end.CompletionTime >= end.StartTime);
        Assert.Single(_node.Api.Told, s => TaskPhase.IsTerminal(s.Phase));
    }

    [Fact]
    public async Task What_is_not_for_this_node_or_has_ended_is_left_alone()
    {
        SnapshotTask elsewhere = FakeNode.CaptureTask(),
            ended = FakeNode.CaptureTask();
        elsewhere.Spec.NodeName = "node-2";
        ended.Status = new SnapshotTaskStatus { Phase = TaskPhase.Failed };
        foreach (SnapshotTask task in new[] { elsewhere, ended })
        {
            await See(task);
            Assert.Equal(0, _reconciler.Running);
        }
        await _reconciler.Reconcile(new ObjectKey("ns", "unknown"), _stop.Token);
        Assert.Empty(_node.Api.Patches);
    }

    [Theory]
    [InlineData("cancelled")]
    [InlineData("deleted")]
    [InlineData("gone")]
    [InlineData("replaced")]
    public async Task A_capture_under_way_is_given_up_when_its_task_no_longer_wants_it(string how)
    {
        UnderWay();
        SnapshotTask task = FakeNode.CaptureTask();
        await See(task);
        await FakeNode.Within(() => File.Exists(_node.Sign("begun")), "it is under way");
        if (how == "cancelled")
            task.Spec.Cancel = true;
        if (how == "deleted")
            task.Metadata.DeletionTimestamp = DateTime.UtcNow;
        if (how == "replaced")
            task.Metadata.Uid = "uid-of-another";
        await See(task, how == "gone" ? "DELETED" : "MODIFIED");
        SnapshotTaskStatus end = await End();
        Assert.Equal((TaskPhase.Failed, "Cancelled", "given up"), (end.Phase, end.Reason, end.Message));
        Assert.Equal("uid-t", _node.Api.Patches[^1]["metadata"]!["uid"]!.GetValue<string>());
    }

    [Fact]
    public async Task A_task_that_is_cancelled_before_it_is_taken_is_never_begun()
    {
        UnderWay();
        SnapshotTask task = FakeNode.CaptureTask();
        task.Spec.Cancel = true;
        await See(task);
        SnapshotTaskStatus end = await End();
        Assert.Equal((TaskPhase.Failed, "Cancelled", "cancelled before it began"), (end.Phase, end.Reason, end.Message));
        Assert.False(File.Exists(_node.Sign("begun")));
        Assert.Single(_node.Api.Patches);
    }

    [Fact]
    public async Task A_task_that_is_gone_when_it_is_to_be_begun_is_not_begun()
    {
        UnderWay();
        for (int i = 0; i < 100; i++)
            _node.Api.WriteFailures.Enqueue(TaskApi.NotFound);
        await See(FakeNode.CaptureTask());
        await FakeNode.Within(() => _reconciler.Running == 0, "it is let go");
        Assert.False(File.Exists(_node.Sign("begun")));
        Assert.Empty(_node.Api.Told);
    }

    [Fact]
    public async Task An_agent_that_is_stopped_frees_its_guests_first_and_says_so()
    {
        UnderWay();
        await See(FakeNode.CaptureTask());
        await FakeNode.Within(() => File.Exists(_node.Sign("begun")), "it is under way");
        await _stop.CancelAsync();
        await _reconciler.Drain().WaitAsync(TimeSpan.FromSeconds(30));
        SnapshotTaskStatus end = _node.Api.Told[^1];
        Assert.Equal((TaskPhase.Failed, "AgentStopped"), (end.Phase, end.Reason));
        Assert.Contains("the agent on node node-1 was stopped during the work; given up", end.Message, StringComparison.Ordinal);
        Assert.Equal(0, _reconciler.Running);
    }

    [Fact]
    public async Task What_an_agent_finished_before_it_died_counts()
    {
        UnderWay();
        FakeNode.WriteSnapshot(Path.Join(_node.Claim, "snap"));
        await See(OfAnEarlierRun());
        SnapshotTaskStatus end = await End();
        Assert.Equal((TaskPhase.Succeeded, Run, 4600), (end.Phase, end.AgentRun, end.Result!.DowntimeMicroseconds));
        Assert.DoesNotContain(_node.Api.Told, s => s.Phase == TaskPhase.Running); // nothing was started again
    }

    [Fact]
    public async Task What_an_agent_had_begun_when_it_died_is_removed_and_said()
    {
        UnderWay();
        string partial = Path.Join(_node.Claim, $".snap.partial-{PartialDirectory.BootDigits()}-0123456789abcdef");
        Directory.CreateDirectory(partial);
        await File.WriteAllTextAsync(Path.Join(partial, "memory"), "half");
        await See(OfAnEarlierRun());
        SnapshotTaskStatus end = await End();
        Assert.Equal((TaskPhase.Failed, "AgentRestarted"), (end.Phase, end.Reason));
        Assert.Contains("Create another snapshot", end.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(partial));
        Assert.False(File.Exists(_node.Sign("begun")));
    }

    [Fact]
    public async Task A_guest_is_freed_before_the_claim_is_looked_for_and_its_loss_does_not_matter()
    {
        UnderWay();
        _node.Api.Pods.Remove(FakeNode.Carrier);
        await See(OfAnEarlierRun());
        SnapshotTaskStatus end = await End();
        Assert.Equal((TaskPhase.Failed, "CarrierLost", 1), (end.Phase, end.Reason, _node.TimesFreed));
        Assert.EndsWith("the guest runs", end.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_guest_that_cannot_be_freed_is_tried_again_and_nothing_is_said_to_have_ended()
    {
        _node.Free =
            $"[ $(wc -l <\"$here/freed\") -gt 3 ] || {{ echo '{FakeNode.Error("QemuUnreachable", "another client is connected")}'; "
            + $"exit 6; }}; {FakeNode.Freed}";
        UnderWay();
        await See(OfAnEarlierRun());
        SnapshotTaskStatus end = await End();
        Assert.Equal((TaskPhase.Failed, "AgentRestarted", 4), (end.Phase, end.Reason, _node.TimesFreed));
        Assert.Contains("the guest runs", end.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_guest_whose_QEMU_has_ended_needs_nothing()
    {
        _node.Free = $"echo '{FakeNode.Error("QemuGone", "no QEMU listens")}'; exit 1";
        UnderWay();
        await See(OfAnEarlierRun());
        SnapshotTaskStatus end = await End();
        Assert.Equal(("AgentRestarted", 1), (end.Reason, _node.TimesFreed));
        Assert.Contains("its guest is gone", end.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_guest_whose_capture_died_is_looked_after_before_that_is_said()
    {
        _node.Capture("kill -9 $$");
        await See(FakeNode.CaptureTask());
        SnapshotTaskStatus end = await End();
        Assert.Equal(("AgentDied", 1), (end.Reason, _node.TimesFreed));
        Assert.EndsWith("the guest runs", end.Message, StringComparison.Ordinal);
    }

    /// <summary>The snapshot is complete, and its guest is as it should be: stopped, if that was asked for.</summary>
    [Theory]
    [InlineData(false, 0)]
    [InlineData(true, 1)]
    public async Task A_capture_that_died_after_its_last_step_has_succeeded(bool command, int freed)
    {
        string end = command ? "kill -9 $$" : $"echo '{FakeNode.Error("AgentDied", "the snapshot is complete and was kept")}'; exit 1";
        _node.Capture($"mv \"$ready\" \"$out\"; {end}");
        await See(FakeNode.CaptureTask());
        SnapshotTaskStatus status = await End();
        Assert.Equal((TaskPhase.Succeeded, null, freed), (status.Phase, status.Reason, _node.TimesFreed));
        Assert.NotNull(status.Result?.ManifestChecksum);
    }

    /// <summary>It was to stay stopped, and runs on: the snapshot is not the state to continue from.</summary>
    [Fact]
    public async Task A_capture_that_died_before_its_guest_was_stopped_has_failed()
    {
        _node.Free = "echo '{\"type\":\"summary\",\"guest\":\"the guest runs\",\"removed\":0,\"thawed\":false,\"resumed\":true}'";
        _node.Capture("mv \"$ready\" \"$out\"; kill -9 $$");
        await See(FakeNode.CaptureTask());
        SnapshotTaskStatus status = await End();
        Assert.Equal((TaskPhase.Failed, "AgentDied", 1), (status.Phase, status.Reason, _node.TimesFreed));
    }

    [Fact]
    public async Task Failures_are_told_by_the_word_of_what_failed()
    {
        _node.Capture($"echo '{FakeNode.Error("DowntimeExceeded", "too long")}'; exit 1");
        await See(FakeNode.CaptureTask());
        SnapshotTaskStatus end = await End();
        Assert.Equal((TaskPhase.Failed, "DowntimeExceeded", "too long"), (end.Phase, end.Reason, end.Message));

        _node.Capture($"echo '{FakeNode.Summary}'"); // succeeds, and leaves nothing
        SnapshotTask second = FakeNode.CaptureTask("second");
        await See(second);
        Assert.Equal("SnapshotLost", (await End()).Reason);

        _node.Capture($"mkdir \"$out\"; echo '{FakeNode.Summary}'"); // leaves something that is not a snapshot
        await See(FakeNode.CaptureTask("third"));
        Assert.Equal("SnapshotCorrupt", (await End()).Reason);

        SnapshotTask blind = FakeNode.CaptureTask("blind");
        blind.Spec.Source = null;
        await See(blind);
        Assert.Equal("BadTask", (await End()).Reason);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_removal_is_done_and_done_once_more_after_a_restart(bool earlier)
    {
        FakeNode.WriteSnapshot(Path.Join(_node.Claim, "snap"));
        SnapshotTask task = earlier ? OfAnEarlierRun() : FakeNode.CaptureTask();
        (task.Spec.Action, task.Spec.Source) = (TaskAction.Delete, null);
        await See(task);
        Assert.Equal(TaskPhase.Succeeded, (await End()).Phase);
        Assert.Empty(Directory.GetFileSystemEntries(_node.Claim));
    }

    [Fact]
    public async Task A_removal_that_leaves_something_has_failed()
    {
        Directory.CreateDirectory(Path.Join(_node.Claim, "snap", "a", "b", "c"));
        SnapshotTask task = FakeNode.CaptureTask();
        (task.Spec.Action, task.Spec.Source) = (TaskAction.Delete, null);
        await See(task);
        SnapshotTaskStatus end = await End();
        Assert.Equal((TaskPhase.Failed, "DeleteFailed"), (end.Phase, end.Reason));
    }

    /// <summary>A capture that runs until a signal ends it.</summary>
    private void UnderWay() =>
        _node.Capture(
            $$"""
            give_up() { echo '{{FakeNode.Error("Cancelled", "given up")}}'; exit 1; }
            trap give_up TERM
            : >"$here/begun"
            while :; do sleep 0.05; done
            """
        );

    private static SnapshotTask OfAnEarlierRun()
    {
        SnapshotTask task = FakeNode.CaptureTask();
        task.Status = new SnapshotTaskStatus { Phase = TaskPhase.Running, AgentRun = "run-1" };
        return task;
    }

    /// <summary>Makes the watch report a task, and the reconciler process it.</summary>
    private async Task See(SnapshotTask task, string type = "ADDED")
    {
        ObjectKey key = ObjectKey.Of(task);
        _node.Api.Tell(type, task);
        await FakeNode.Within(
            () =>
                type == "DELETED" ? _tasks.Find(key) is null : _tasks.Find(key)?.Metadata.ResourceVersion == task.Metadata.ResourceVersion,
            "the watch has told"
        );
        await _reconciler.Reconcile(key, _stop.Token);
    }

    private async Task<SnapshotTaskStatus> End()
    {
        await FakeNode.Within(() => _reconciler.Running == 0, "the work has ended");
        SnapshotTaskStatus last = _node.Api.Told[^1];
        Assert.True(TaskPhase.IsTerminal(last.Phase), $"the last that was told is {last.Phase}");
        return last;
    }
}
