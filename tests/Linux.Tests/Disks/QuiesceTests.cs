using System.Diagnostics;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Restore;
using Bgsnap.Linux.Tests.Survival;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>A real qemu-ga freezes a real ext4; however a capture ends, the guest's programs write on.</summary>
public sealed class QuiesceTests : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("bgsnap-quiesce-");

    public void Dispose() => _folder.Delete(recursive: true);

    [SkippableTheory]
    [InlineData(QemuVersion.System, "agent")]
    [InlineData(QemuVersion.Unpacked10, "agent")]
    [InlineData(QemuVersion.Unpacked10, "qemu")]
    public async Task A_quiesced_file_system_needs_no_replay(QemuVersion version, string engine)
    {
        await using var vm = await StartAsync(version);
        var graph = await BlockGraph.TakeAsync(vm);
        for (var i = 0; i < 2; i++)
        {
            var outcome = await Agent.TryCaptureAsync(
                vm,
                $"capture{i}",
                null,
                $"--engine={engine}",
                $"--guest-agent={vm.GuestAgentSocket}",
                "--quiesce=required"
            );

            Assert.True(outcome.Summary is not null, outcome.Process.ToString());
            Assert.Equal("GuestAgent", QuiesceOf(outcome));
            var disk = Assert.Single(SnapshotDisks.Of(outcome.Summary.Output), d => d.File is not null);
            var raw = await SnapshotDisks.ToRawAsync(outcome.Summary.Output, disk);
            var features = await Tool.RunAsync("dumpe2fs", "-h", raw);
            Assert.DoesNotContain("needs_recovery", features, StringComparison.Ordinal);
            Assert.Empty(await Ext4Machine.JudgeAsync(outcome.Summary.Output));
            await DiskMachines.WritesOnAsync(vm, $"capture {i}");
            await graph.AssertIsBackAsync(vm, $"capture {i}", byQemu: engine == "qemu");
        }
    }

    /// <summary>The check above must be able to fail.</summary>
    [SkippableFact]
    public async Task A_file_system_that_was_not_quiesced_needs_a_replay()
    {
        await using var vm = await StartAsync(QemuVersion.System);

        var outcome = await Agent.TryCaptureAsync(vm, "capture", null, $"--guest-agent={vm.GuestAgentSocket}", "--quiesce=never");

        Assert.Equal("Online", QuiesceOf(outcome));
        var raw = await SnapshotDisks.ToRawAsync(
            outcome.Summary!.Output,
            Assert.Single(SnapshotDisks.Of(outcome.Summary.Output), d => d.File is not null)
        );
        Assert.Contains("needs_recovery", await Tool.RunAsync("dumpe2fs", "-h", raw), StringComparison.Ordinal);
    }

    [SkippableTheory]
    [InlineData("kill:frozen", false)]
    [InlineData("kill:stopped", false)]
    [InlineData("kill:released", false)]
    [InlineData("stop:frozen", false)]
    [InlineData("stop:frozen", true)]
    public async Task A_guest_thaws_when_the_capture_dies_in_the_middle(string hook, bool parentToo)
    {
        await using var vm = await StartAsync(QemuVersion.System);
        var graph = await BlockGraph.TakeAsync(vm);
        await using var family = await CaptureFamily.StartAsync(
            hook,
            "--qmp",
            vm.QmpSocket,
            "--engine=agent",
            "--output",
            Path.Combine(vm.Folder, "s"),
            "--guest-agent",
            vm.GuestAgentSocket,
            "--quiesce=required"
        );
        await family.FindWorkerAsync();
        if (parentToo)
        {
            // The file system is frozen, and no process of ours is left to thaw it.
            await FrozenAsync(vm);
            family.Signal(HarnessLibc.SigKill);
            family.SignalWorker(HarnessLibc.SigKill);
        }

        await family.WaitAsync(Patience);
        if (parentToo)
        {
            Assert.Equal("frozen", await GuestAgentSaysAsync(vm, "guest-fsfreeze-status"));
            var next = await Agent.TryCaptureAsync(vm, "next", null, $"--guest-agent={vm.GuestAgentSocket}", "--quiesce=required");
            Assert.Equal("GuestAgent", QuiesceOf(next));
        }

        await DiskMachines.WritesOnAsync(vm, hook);
        Assert.Equal("thawed", await GuestAgentSaysAsync(vm, "guest-fsfreeze-status"));
        await graph.AssertIsBackAsync(vm, hook);
    }

    /// <summary>A capture that gives up in the stop window removes its files, and that may take as long as the volume hangs.</summary>
    [SkippableTheory]
    [InlineData("agent", "--max-downtime=1ms", "DowntimeExceeded")]
    [InlineData("qemu", "--disks=all", "GuestNotRunning")]
    public async Task A_guest_thaws_before_the_capture_that_gives_up_cleans_up(string engine, string more, string reason)
    {
        await using var vm = await StartAsync(QemuVersion.Unpacked10);
        await using var volume = await HangingVolume.CreateAsync(vm.Folder, 400);
        var gate = Path.Combine(vm.Folder, "gate");
        await using var family = await CaptureFamily.StartAsync(
            $"wait:frozen:1:{gate}",
            "--qmp",
            vm.QmpSocket,
            $"--engine={engine}",
            "--output",
            Path.Combine(volume.Folder, "s"),
            "--guest-agent",
            vm.GuestAgentSocket,
            "--quiesce=required",
            "--scratch",
            vm.Folder,
            more
        );
        while (!File.Exists(gate))
        {
            Assert.False(family.HasEnded, family.Output);
            await Task.Delay(5);
        }

        if (engine == "qemu")
            await vm.StopVcpusAsync(); // QEMU's own engine captures only a running guest
        await volume.HangAsync();
        try
        {
            File.Delete(gate);
            if (engine == "qemu")
            {
                await Task.Delay(1000);
                await vm.ContinueVcpusAsync();
            }

            await DiskMachines.WritesOnAsync(vm, "the capture gave up", Survival.Patient.Patience);
        }
        finally
        {
            await volume.GoOnAsync();
        }

        var result = await family.WaitAsync(Patience);
        Assert.True(CaptureFamily.ErrorOf(result)?.Reason == reason, result.ToString());
        Assert.Equal("thawed", await GuestAgentSaysAsync(vm, "guest-fsfreeze-status"));
    }

    /// <summary>The freeze is part of the captured memory: the restore that wakes the guest up has to end it.</summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task A_guest_captured_frozen_is_thawed_when_it_is_restored(QemuVersion version)
    {
        var kept = Path.Combine(_folder.FullName, "kept");
        long captured;
        await using (var source = await StartAsync(version))
        {
            var outcome = await Agent.TryCaptureAsync(source, "s", null, $"--guest-agent={source.GuestAgentSocket}", "--quiesce=required");
            Assert.Equal("GuestAgent", QuiesceOf(outcome));
            SnapshotDisks.CopyTo(outcome.Summary!.Output, kept);
            captured = SnapshotImage.FindDiskRecord(kept).Acknowledged;
        }

        var image = Path.Combine(kept, Assert.Single(SnapshotDisks.Of(kept), d => d.File is not null).File!);
        var options = Ext4Machine.Options(version, DiskFormat.Raw, image, agent: true) with { Incoming = "defer" };
        await using (var left = await VirtualMachine.StartAsync(options))
        {
            var warned = await RestoreOutcome.OfAsync(kept, left);
            Assert.True(warned.Type == "summary", warned.ToString());
            Assert.Contains("frozen", warned.Last.GetProperty("stillFrozen").GetString(), StringComparison.Ordinal);
            Assert.Equal("frozen", await GuestAgentSaysAsync(left, "guest-fsfreeze-status"));
        }

        await using var restored = await VirtualMachine.StartAsync(options);
        var thawed = await RestoreOutcome.OfAsync(kept, restored, $"--guest-agent={restored.GuestAgentSocket}");
        Assert.True(thawed.Type == "summary", thawed.ToString());
        Assert.Equal(
            (1, JsonValueKind.Null),
            (thawed.Last.GetProperty("thawed").GetInt32(), thawed.Last.GetProperty("stillFrozen").ValueKind)
        );
        Assert.Equal("thawed", await GuestAgentSaysAsync(restored, "guest-fsfreeze-status"));
        var report = await restored.WaitForReportAsync(r => r.Disk > captured + 70, "each file checked once");
        Assert.Equal(0, report.Corrupt);
    }

    [SkippableFact]
    public async Task A_freeze_of_somebody_else_is_left_alone()
    {
        await using var vm = await StartAsync(QemuVersion.System);
        Assert.Equal("1", await GuestAgentSaysAsync(vm, "guest-fsfreeze-freeze"));

        var refused = await Agent.TryCaptureAsync(vm, "refused", null, $"--guest-agent={vm.GuestAgentSocket}", "--quiesce=required");
        var went = await Agent.TryCaptureAsync(vm, "went", null, $"--guest-agent={vm.GuestAgentSocket}");

        Assert.Equal(("QuiesceFailed", 3), (refused.Error?.Reason, refused.Error?.ExitCode));
        Assert.Equal("QuiesceFailed", QuiesceOf(went));
        Assert.Equal("frozen", await GuestAgentSaysAsync(vm, "guest-fsfreeze-status"));
        Assert.Equal("1", await GuestAgentSaysAsync(vm, "guest-fsfreeze-thaw"));
        await DiskMachines.WritesOnAsync(vm, "the thaw");
    }

    /// <summary>A channel without a listener in the guest: QEMU accepts the connection and no answer ever comes.</summary>
    [SkippableFact]
    public async Task An_agent_that_never_answers_costs_its_time_and_nothing_else()
    {
        await using var vm = await Requirements.StartAsync(
            DiskMachines.Writing(QemuVersion.System, new TestDisk()) with
            {
                GuestAgent = true,
            }
        );
        string[] options = [$"--guest-agent={vm.GuestAgentSocket}", "--quiesce-timeout=500ms"];

        var went = await Agent.TryCaptureAsync(vm, "went", null, options);
        var refused = await Agent.TryCaptureAsync(vm, "refused", null, [.. options, "--quiesce=required"]);

        Assert.Equal("NoGuestAgent", QuiesceOf(went));
        Assert.Equal(("QuiesceFailed", 3), (refused.Error?.Reason, refused.Error?.ExitCode));
        Assert.Contains("did not answer", refused.Error!.Message, StringComparison.Ordinal);
        await DiskMachines.WritesOnAsync(vm, "both");
    }

    private async Task<VirtualMachine> StartAsync(QemuVersion version)
    {
        var vm = await Ext4Machine.StartAsync(version, _folder.FullName, agent: true);
        var began = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(began) < Patience)
        {
            try
            {
                _ = await GuestAgentSaysAsync(vm, "guest-fsfreeze-status");
                return vm;
            }
            catch (Exception e) when (e is SocketException or IOException)
            {
                await Task.Delay(200); // it has not opened its end yet
            }
        }

        await vm.DisposeAsync();
        throw new TimeoutException("qemu-ga does not answer.");
    }

    private static async Task FrozenAsync(VirtualMachine vm)
    {
        // The capture holds the channel, so the test detects the freeze by the guest's silence.
        for (var still = 0; still < 5; )
        {
            var before = vm.LatestReport!;
            var next = await vm.WaitForTickAsync(before.Tick + 1);
            still = next.Disk == before.Disk ? still + 1 : 0;
        }
    }

    private static string? QuiesceOf(CaptureOutcome outcome) =>
        JsonSerializer
            .Deserialize<JsonElement>(outcome.Process.StandardOutput.Split('\n', StringSplitOptions.RemoveEmptyEntries).Last())
            .GetProperty("summary")
            .GetProperty("quiesce")
            .GetString();

    /// <summary>Asks with a client that shares no code with the agent's.</summary>
    private static async Task<string> GuestAgentSaysAsync(VirtualMachine vm, string command)
    {
        using Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) { ReceiveTimeout = 5000 };
        await socket.ConnectAsync(new UnixDomainSocketEndPoint(vm.GuestAgentSocket));
        socket.Send([0xFF, .. "{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":77}}\n"u8]);
        using NetworkStream stream = new(socket) { ReadTimeout = 5000 };
        while (stream.ReadByte() != 0xFF) { }

        using StreamReader reader = new(stream);
        Assert.Contains("77", reader.ReadLine(), StringComparison.Ordinal);
        socket.Send(Encoding.ASCII.GetBytes($$"""{"execute":"{{command}}"}""" + "\n"));
        var answer = JsonSerializer.Deserialize<JsonElement>(reader.ReadLine()!);
        return answer.TryGetProperty("return", out var value) ? value.ToString() : throw new InvalidOperationException(answer.ToString());
    }
}
