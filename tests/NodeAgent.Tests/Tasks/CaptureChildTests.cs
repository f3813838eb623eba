using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Cli;
using Bgsnap.NodeAgent.Processes;
using Bgsnap.NodeAgent.Tasks;

namespace Bgsnap.NodeAgent.Tests.Tasks;

public sealed class CaptureChildTests : IDisposable
{
    private readonly FakeNode _node = new();
    private readonly List<ProgressLine> _progress = [];

    public void Dispose() => _node.Dispose();

    [Fact]
    public async Task Its_lines_are_read_and_what_is_none_is_passed_over()
    {
        _node.Capture(
            $$"""
            echo '{{FakeNode.Progress(10)}}'
            echo 'warning: something'
            echo '[]'
            echo '{"kind":"unknown"}'
            echo '{"type":"later-invention","percent":"x"}'
            echo '{"type":"progress","percent":"not a number"}'
            echo '{{FakeNode.Progress(60, "2026-08-01T09:00:00.25Z")}}'
            echo '{{FakeNode.Summary}}'
            """
        );
        SummaryLine summary = await Run();
        Assert.Equal([10, 60], _progress.Select(p => p.Percent));
        Assert.Equal(
            (60_000_000, new DateTimeOffset(2026, 8, 1, 9, 0, 0, 250, TimeSpan.Zero)),
            (_progress[1].CopiedBytes, _progress[1].PointInTime)
        );
        Assert.Null(_progress[0].PointInTime);
        Assert.Equal((1, 4, "agent"), (summary.Summary.DowntimeMicroseconds, summary.Summary.Faults, summary.Summary.Engine));
        Assert.Contains(
            "--qmp=/run/q --container=c0ffee --output=/claim/snap",
            await File.ReadAllTextAsync(_node.Sign("arguments")),
            StringComparison.Ordinal
        );
    }

    [Fact]
    public async Task A_failure_is_told_in_its_own_words()
    {
        _node.Capture($"echo '{FakeNode.Progress(10)}'; echo '{FakeNode.Error("DiskFull", "the volume is full")}'; exit 1");
        TaskFailure e = await Assert.ThrowsAsync<TaskFailure>(Run);
        Assert.Equal(("DiskFull", "the volume is full"), (e.Reason, e.Message));
    }

    [Theory]
    [InlineData("echo 'Out of memory' >&2; kill -9 $$", "exit code 137: Out of memory; nothing was kept")]
    [InlineData("printf '{\"type\":\"summ'; exit 3", "exit code 3; nothing was kept")]
    [InlineData("exit 0", "exit code 0; nothing was kept")]
    public async Task A_death_without_a_word_is_told_with_what_is_known(string script, string words)
    {
        _node.Capture(script);
        TaskFailure e = await Assert.ThrowsAsync<TaskFailure>(Run);
        Assert.Equal("AgentDied", e.Reason);
        Assert.EndsWith(words, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task One_that_says_nothing_is_ended_with_all_that_it_started()
    {
        _node.Capture("sleep 1000 & echo $! >\"$here/child\"; wait");
        TaskFailure e = await Assert.ThrowsAsync<TaskFailure>(() =>
            AgentChild
                .Run(["capture"], "nothing was kept", (_, _) => { }, default, program: _node.Program, silence: TimeSpan.FromSeconds(1))
                .WaitAsync(TimeSpan.FromSeconds(30))
        );
        Assert.Equal(("AgentDied", true), (e.Reason, e.NeedsCare));
        Assert.Contains("was silent for 1 s", e.Message, StringComparison.Ordinal);
        string child = (await File.ReadAllTextAsync(_node.Sign("child"))).Trim();
        await FakeNode.Within(
            () => !Directory.Exists($"/proc/{child}") || File.ReadAllText($"/proc/{child}/stat").Contains(") Z", StringComparison.Ordinal),
            "its child has ended"
        );
    }

    [Fact]
    public async Task One_that_floods_us_costs_no_memory()
    {
        _node.Capture("head -c 80000000 /dev/zero | tr '\\0' x; echo; head -c 80000000 /dev/zero | tr '\\0' y >&2; echo end >&2; exit 1");
        GC.Collect();
        long before = GC.GetTotalMemory(true);
        TaskFailure e = await Assert.ThrowsAsync<TaskFailure>(Run);
        Assert.Equal("AgentDied", e.Reason);
        Assert.Contains("end; nothing was kept", e.Message, StringComparison.Ordinal);
        Assert.InRange(e.Message.Length, 0, 20_000);
        Assert.InRange(GC.GetTotalMemory(true) - before, long.MinValue, 20_000_000);
    }

    [Fact]
    public async Task Its_memory_is_limited_and_it_is_ended_before_the_agent()
    {
        _node.Capture(
            "while [ \"$(cat /proc/$$/oom_score_adj)\" -lt 1000 ]; do sleep 0.01; done; echo \"$DOTNET_GCHeapHardLimit\" "
                + ">\"$here/limit\"; exit 1"
        );
        await Assert.ThrowsAsync<TaskFailure>(() => Run().WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.Equal("20000000", (await File.ReadAllTextAsync(_node.Sign("limit"))).Trim());
    }

    [Fact]
    public async Task A_summary_of_one_that_failed_after_it_does_not_count()
    {
        _node.Capture($"echo '{FakeNode.Summary}'; exit 1");
        Assert.Equal("AgentDied", (await Assert.ThrowsAsync<TaskFailure>(Run)).Reason);
    }

    [Fact]
    public async Task Cancelled_it_may_end_in_good_order()
    {
        _node.Capture(
            $$"""
            give_up() { echo '{{FakeNode.Error("Cancelled", "given up")}}'; exit 1; }
            trap give_up TERM
            echo '{{FakeNode.Progress(10)}}'
            while :; do sleep 0.05; done
            """
        );
        using CancellationTokenSource cancel = new();
        Task<SummaryLine> running = Run(cancel.Token);
        await FakeNode.Within(
            () =>
            {
                lock (_progress)
                    return _progress.Count == 1;
            },
            "it is under way"
        );
        await cancel.CancelAsync();
        TaskFailure e = await Assert.ThrowsAsync<TaskFailure>(() => running.WaitAsync(TimeSpan.FromSeconds(15)));
        Assert.Equal(("Cancelled", "given up"), (e.Reason, e.Message));
    }

    [Fact]
    public void The_spec_becomes_a_command_line()
    {
        Assert.Equal(
            ["capture", "--json", "--qmp=s", "--container=c", "--output=o", "--engine=auto", "--compression=none", "--max-downtime=1s"],
            new CaptureOrder
            {
                Monitor = new() { QmpSocket = "s" },
                ContainerId = "c",
                Output = "o",
            }.Arguments()
        );
        Assert.Equal(
            [
                "capture",
                "--json",
                "--qmp=s",
                "--container=c",
                "--output=o",
                "--engine=qemu",
                "--compression=zstd",
                "--max-downtime=250ms",
                "--bandwidth-limit=209715200",
            ],
            new CaptureOrder
            {
                Monitor = new() { QmpSocket = "s" },
                ContainerId = "c",
                Output = "o",
                How = new CaptureSpec
                {
                    Engine = "Qemu",
                    Compression = "Zstd",
                    MaxDowntime = "250ms",
                    BandwidthLimit = "200Mi",
                },
            }.Arguments()
        );
    }

    [Theory]
    [InlineData("1048576", 1 << 20)]
    [InlineData("1.5Mi", 3 << 19)]
    [InlineData("2Ki", 2048)]
    [InlineData("3k", 3000)]
    [InlineData("4M", 4_000_000)]
    [InlineData("5G", 5_000_000_000)]
    [InlineData("2Gi", 2L << 30)]
    [InlineData("1Ti", 1L << 40)]
    [InlineData("1T", 1_000_000_000_000)]
    [InlineData("1e3", 1000)]
    [InlineData("1e9", 1_000_000_000)]
    [InlineData("1P", 1_000_000_000_000_000)]
    [InlineData("1Pi", 1L << 50)]
    [InlineData("1048576000m", 1048576)]
    [InlineData("1500m", 2)]
    public void Quantities_are_Kubernetes(string quantity, long bytes) => Assert.Equal(bytes, CaptureOrder.Bytes(quantity));

    [Theory]
    [InlineData("")]
    [InlineData("Mi")]
    [InlineData("-1")]
    [InlineData("100E")]
    [InlineData("1KM")]
    public void What_is_no_quantity_is_refused(string quantity) =>
        Assert.Equal("BadQuantity", Assert.Throws<TaskFailure>(() => CaptureOrder.Bytes(quantity)).Reason);

    private Task<SummaryLine> Run() => Run(default);

    private Task<SummaryLine> Run(CancellationToken cancel) =>
        CaptureChild.Run(
            new CaptureOrder
            {
                Monitor = new() { QmpSocket = "/run/q" },
                ContainerId = "c0ffee",
                Output = "/claim/snap",
            },
            p =>
            {
                lock (_progress)
                    _progress.Add(p);
            },
            cancel,
            program: _node.Program
        );
}
