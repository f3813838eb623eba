using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Capture;

/// <summary>A capture leaves the guest and the QEMU process as they were.</summary>
public class GuestStateTests
{
    /// <remarks>
    /// No --pid is needed: SO_PEERCRED gives the peer's pid in our own pid namespace, and ours can see a QEMU in a namespace below it.
    /// </remarks>
    [SkippableTheory]
    [InlineData(QemuVersion.System, "pc", RamKind.Anonymous)]
    [InlineData(QemuVersion.Unpacked10, "q35", RamKind.Memfd)]
    public async Task A_machine_as_in_a_launcher_is_captured_and_nothing_is_left_in_it(QemuVersion version, string machine, RamKind ram)
    {
        await using var vm = await Requirements.StartAsync(Machines.Counting(version, machine, ram, cpus: 2).AsInLauncher());
        await Machines.WarmUpAsync(vm);
        var before = await ProcessFingerprint.TakeAsync(vm);

        var summary = await Agent.CaptureAsync(vm, "snapshot", "--engine=agent", Agent.Slowly);

        Assert.Empty(await before.DifferencesAfterwardsAsync(vm));
        var verdict = SnapshotImage.Judge(summary.Output);
        Assert.True(verdict.IsOneCut, $"{verdict}\n{summary}");
        Assert.True(summary.Faults > 0, $"{summary}");
        await Machines.AssertLivesAsync(vm);
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System, RamKind.Memfd)]
    [InlineData(QemuVersion.Unpacked10, RamKind.Anonymous)]
    public async Task Ten_captures_leave_nothing_behind(QemuVersion version, RamKind ram)
    {
        await using var vm = await Requirements.StartAsync(Machines.Counting(version, "q35", ram));
        await Machines.WarmUpAsync(vm);
        var before = await ProcessFingerprint.TakeAsync(vm);

        for (int i = 0; i < 10; i++)
        {
            var summary = await Agent.CaptureAsync(vm, $"snapshot-{i}", "--engine=agent");
            Directory.Delete(summary.Output, recursive: true);
        }

        Assert.Empty(await before.DifferencesAfterwardsAsync(vm));
        AssertNoOutput(vm);
        await Machines.AssertLivesAsync(vm);
    }

    /// <remarks>
    /// QEMU 7.2 closes descriptors that remove-fd removed only while the guest runs (monitor_fdset_cleanup() asks runstate_is_running()):
    /// during a pause they stay.
    /// </remarks>
    [SkippableTheory]
    [InlineData(QemuVersion.System, RamKind.Memfd)]
    [InlineData(QemuVersion.Unpacked10, RamKind.Anonymous)]
    public async Task A_paused_guest_stays_paused_and_its_snapshot_lives(QemuVersion version, RamKind ram)
    {
        var options = Machines.Counting(version, "q35", ram);
        await using var vm = await Requirements.StartAsync(options);
        await Machines.WarmUpAsync(vm);
        await vm.StopVcpusAsync();
        await Task.Delay(100); // the last line is in transit
        var last = vm.LatestReport!;
        var before = await ProcessFingerprint.TakeAsync(vm);
        Assert.Equal("paused", before.RunState);

        var summary = await Agent.CaptureAsync(vm, "snapshot", "--engine=agent");

        var left = await before.DifferencesAfterwardsAsync(vm);
        if (version == QemuVersion.System)
            Assert.All(left, item => Assert.Matches("^new: (descriptor (pipe:|/dev/userfaultfd)|fdset .*agent-bgsnap)", item));
        else
            Assert.Empty(left);
        Assert.DoesNotContain(vm.Qmp.Events, e => e.Name == "RESUME");
        // The reference comes from QEMU itself, which shares no code with the agent.
        Assert.Equal("", SnapshotImage.DifferencesFromMemory(summary.Output, await vm.DumpMemoryAsync()));

        await using var restored = await VirtualMachine.StartAsync(options with { Incoming = "defer" });
        await Agent.RestoreAsync(summary.Output, restored);
        if (await restored.Qmp.RunStateAsync() == "paused")
            await restored.ContinueVcpusAsync();
        var first = await restored.WaitForTickAsync(1);
        Assert.InRange(first.Tick, last.Tick + 1, last.Tick + 2);
        await Machines.AssertLivesAsync(restored);

        await vm.ContinueVcpusAsync();
        await Machines.AssertLivesAsync(vm);
        using (await HarnessQmp.ConnectAsync(vm.QmpSocket, CancellationToken.None))
        {
            // Closing the connection makes QEMU clean up its descriptors.
        }
        Assert.Empty(await (before with { RunState = "running" }).DifferencesAfterwardsAsync(vm));
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task QEMUs_engine_refuses_a_guest_that_is_halted_and_leaves_it_so(QemuVersion version)
    {
        await using var vm = await Requirements.StartAsync(Machines.Counting(version, "pc", RamKind.Anonymous));
        await vm.StopVcpusAsync();
        var before = await ProcessFingerprint.TakeAsync(vm);

        var outcome = await Agent.TryCaptureAsync(vm, "snapshot", null, "--engine=qemu");

        Assert.True(outcome.Process.ExitCode == 3, outcome.Process.ToString());
        Assert.Equal("GuestNotRunning", outcome.Error?.Reason);
        Assert.DoesNotContain(vm.Qmp.Events, e => e.Name == "RESUME");
        Assert.Empty(await before.DifferencesAfterwardsAsync(vm));
        AssertNoOutput(vm);
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System, RamKind.Anonymous)]
    [InlineData(QemuVersion.Unpacked10, RamKind.Memfd)]
    public async Task A_capture_that_would_stop_the_guest_for_too_long_is_given_up(QemuVersion version, RamKind ram)
    {
        await using var vm = await Requirements.StartAsync(Machines.Counting(version, "q35", ram));
        await Machines.WarmUpAsync(vm);
        var before = await ProcessFingerprint.TakeAsync(vm);

        var tooLong = await Agent.TryCaptureAsync(vm, "too-long", null, "--engine=agent", "--max-downtime=1us");

        Assert.True(tooLong.Process.ExitCode == 1, tooLong.Process.ToString());
        Assert.Equal("DowntimeExceeded", tooLong.Error?.Reason);
        Assert.Empty(await before.DifferencesAfterwardsAsync(vm));
        AssertNoOutput(vm);
        await Machines.AssertLivesAsync(vm);

        var summary = await Agent.CaptureAsync(vm, "in-time", "--engine=agent", "--max-downtime=5s", Agent.Slowly);
        Assert.InRange(summary.DowntimeMicroseconds, 1, 5_000_000);
        Assert.True(SnapshotImage.Judge(summary.Output).IsOneCut);
        await Machines.AssertLivesAsync(vm);
    }

    [SkippableFact]
    public async Task Where_ptrace_is_denied_auto_takes_QEMUs_engine_and_says_why()
    {
        await using var vm = await Requirements.StartAsync(Machines.Counting(QemuVersion.Unpacked10, "pc", RamKind.Anonymous));
        await Machines.WarmUpAsync(vm);
        var before = await ProcessFingerprint.TakeAsync(vm);

        var refused = await Agent.TryCaptureAsync(vm, "refused", Agent.Hook("deny:ptrace"), "--engine=agent");

        Assert.True(refused.Process.ExitCode == 4, refused.Process.ToString());
        Assert.Equal("EngineUnavailable", refused.Error?.Reason);
        Assert.Contains("ptrace is denied", refused.Error?.Message, StringComparison.Ordinal);
        Assert.Empty(await before.DifferencesAfterwardsAsync(vm));
        AssertNoOutput(vm);

        var summary = await Agent.CaptureAsync(vm, "snapshot", Agent.Hook("deny:ptrace"), "--engine=auto");

        Assert.Equal("qemu", summary.Engine);
        Assert.Contains("ptrace is denied", summary.EngineReason, StringComparison.Ordinal);
        var verdict = SnapshotImage.Judge(summary.Output);
        Assert.True(verdict.IsOneCut, verdict.ToString());
        // QEMU 10 opens the device for its own engine and keeps it.
        Assert.DoesNotContain(await before.DifferencesAfterwardsAsync(vm), d => d != "new: descriptor /dev/userfaultfd");
        await Machines.AssertLivesAsync(vm);

        Assert.Equal("agent", (await Agent.CaptureAsync(vm, "allowed")).Engine);
    }

    /// <summary>QEMU's own engine is no alternative there: it leaves the guest hanging when its snapshot ends early.</summary>
    [SkippableFact]
    public async Task Where_ptrace_is_denied_auto_refuses_a_QEMU_before_8_1()
    {
        await using var vm = await Requirements.StartAsync(Machines.Counting(QemuVersion.System, "pc", RamKind.Anonymous));
        await Machines.WarmUpAsync(vm);
        var before = await ProcessFingerprint.TakeAsync(vm);

        var refused = await Agent.TryCaptureAsync(vm, "refused", Agent.Hook("deny:ptrace"), "--engine=auto");

        Assert.Equal(("EngineUnavailable", 4), (refused.Error?.Reason, refused.Error?.ExitCode));
        Assert.Contains("QEMU 8.1", refused.Error!.Message, StringComparison.Ordinal);
        Assert.Empty(await before.DifferencesAfterwardsAsync(vm));
        AssertNoOutput(vm);
        await Machines.AssertLivesAsync(vm);
    }

    /// <summary>By that number QEMU would truncate, and write its devices into, whatever it has opened since.</summary>
    [SkippableFact]
    public async Task A_pipe_that_QEMU_has_closed_meanwhile_is_not_written_to()
    {
        await using var vm = await Requirements.StartAsync(Machines.Counting(QemuVersion.System, "pc", RamKind.Anonymous));
        await Machines.WarmUpAsync(vm);
        var point = Path.Combine(vm.Folder, "point");

        var capture = Agent.TryCaptureAsync(vm, "snapshot", Agent.Hook($"wait:protected-ahead:1:{point}"), "--engine=agent");
        while (!File.Exists(point) && !capture.IsCompleted)
            await Task.Delay(5);
        foreach (var set in (await vm.Qmp.ExecuteAsync("query-fdsets")).EnumerateArray())
            await vm.Qmp.ExecuteAsync("remove-fd", new() { ["fdset-id"] = set.GetProperty("fdset-id").GetInt32() });
        File.Delete(point);

        var outcome = await capture;
        Assert.True(outcome.Error is { Reason: "GuestStateChanged" }, outcome.Process.ToString());
        Assert.DoesNotContain(vm.Qmp.Events, e => e.Name == "STOP");
        await Machines.AssertLivesAsync(vm);
    }

    /// <summary>Neither a snapshot exists nor the hidden directory of an unfinished one.</summary>
    private static void AssertNoOutput(VirtualMachine vm) => Assert.Empty(Directory.GetDirectories(vm.Folder));
}
