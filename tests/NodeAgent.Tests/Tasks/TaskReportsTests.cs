using System.Diagnostics;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Tasks;
using Microsoft.Extensions.Logging.Abstractions;

namespace Bgsnap.NodeAgent.Tests.Tasks;

public sealed class TaskReportsTests
{
    private readonly TaskApi _api = new();
    private readonly SnapshotTask _task = FakeNode.CaptureTask();

    private TaskReports Reports => new(_api, NullLogger.Instance);

    private static SnapshotTaskStatus Running => new() { Phase = TaskPhase.Running, Percent = 7 };

    [Fact]
    public async Task A_status_is_written_for_this_task_and_no_other_of_its_name()
    {
        Assert.True(await Reports.Insist(_task, Running, default));
        Assert.Equal("uid-t", _api.Patches.Single()["metadata"]!["uid"]!.GetValue<string>());
        Assert.Equal((TaskPhase.Running, 7), (_api.Written.Single().Phase, _api.Written.Single().Percent));
    }

    [Fact]
    public async Task A_beginning_or_an_end_is_told_until_somebody_hears_it()
    {
        _api.WriteFailures.Enqueue(new HttpRequestException("connection refused"));
        _api.WriteFailures.Enqueue(new ApiException(503, "ServiceUnavailable", "no endpoints"));
        _api.WriteFailures.Enqueue(new IOException("reset"));
        Assert.True(await Reports.Insist(_task, Running, default).WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.Equal((4, 1), (_api.Patches.Count, _api.Written.Count));
    }

    [Theory]
    [InlineData(404, "NotFound")]
    [InlineData(409, "Conflict")]
    [InlineData(422, "Invalid")]
    public async Task A_task_that_stays_missing_is_gone_but_not_one_that_a_young_server_does_not_know_yet(int code, string reason)
    {
        for (int i = 0; i < 3; i++)
            _api.WriteFailures.Enqueue(new ApiException(code, reason, "x"));
        Assert.True(await Reports.Insist(_task, Running, default).WaitAsync(TimeSpan.FromSeconds(30)));

        for (int i = 0; i < 100; i++)
            _api.WriteFailures.Enqueue(new ApiException(code, reason, "x"));
        long began = Stopwatch.GetTimestamp();
        Assert.False(await Reports.Insist(_task, Running, default).WaitAsync(TimeSpan.FromSeconds(60)));
        // Five seconds, by a clock that ticks about every 4 ms.
        Assert.True(Stopwatch.GetElapsedTime(began) >= TimeSpan.FromSeconds(4.9), "it was taken for gone too early");
    }

    [Fact]
    public async Task Only_the_programs_end_breaks_it_off()
    {
        for (int i = 0; i < 1000; i++)
            _api.WriteFailures.Enqueue(new HttpRequestException("connection refused"));
        using CancellationTokenSource stop = new();
        Task<bool> insisting = Reports.Insist(_task, Running, stop.Token);
        await FakeNode.Within(() => _api.WriteFailures.Count <= 998, "it was tried twice");
        Assert.False(insisting.IsCompleted);
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => insisting);
        Assert.Empty(_api.Written);
    }

    [Fact]
    public async Task Progress_is_written_once_and_its_loss_is_no_matter()
    {
        foreach (
            Exception e in new Exception[]
            {
                new HttpRequestException("refused"),
                new ApiException(500, "InternalError", "etcd"),
                TaskApi.NotFound,
                new IOException("reset"),
            }
        )
        {
            _api.WriteFailures.Enqueue(e);
            int before = _api.Patches.Count;
            await Reports.Try(_task, Running, default);
            Assert.Equal(before + 1, _api.Patches.Count);
        }
        Assert.Empty(_api.Written);
        await Reports.Try(_task, Running, default);
        Assert.Single(_api.Written);
    }
}
