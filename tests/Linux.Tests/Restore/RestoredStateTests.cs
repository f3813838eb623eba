using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore;

/// <summary>A restored guest is in its captured state, paused or running, by every way and also with a stock QEMU.</summary>
public class RestoredStateTests
{
    [SkippableTheory]
    [InlineData(QemuVersion.System, "stream")]
    [InlineData(QemuVersion.System, "eager")]
    [InlineData(QemuVersion.System, "instant")]
    [InlineData(QemuVersion.Unpacked10, "stream")]
    [InlineData(QemuVersion.Unpacked10, "eager")]
    [InlineData(QemuVersion.Unpacked10, "instant")]
    public async Task A_guest_that_was_paused_is_paused_until_its_user_lets_it_run(QemuVersion version, string mode)
    {
        var options = Machines.Counting(version, "q35", RamKind.Anonymous);
        await using var vm = await Requirements.StartAsync(options);
        await Machines.WarmUpAsync(vm);
        await vm.StopVcpusAsync();
        var snapshot = await Agent.CaptureAsync(vm, "snapshot", "--engine=agent");

        await using var target = await VirtualMachine.StartAsync(options with { Incoming = "defer" });
        var outcome = await RestoreOutcome.OfAsync(snapshot.Output, target, $"--mode={mode}");

        Assert.True(outcome.Process.ExitCode == 0, $"{outcome}\n{target.Describe()}");
        Assert.Equal("paused", outcome.Last.GetProperty("guestState").GetString());
        Assert.Equal("paused", await target.Qmp.RunStateAsync());
        Assert.DoesNotContain(target.Qmp.Events, e => e.Name == "RESUME");
        // The node's agent asks this on behalf of a dead process, which cannot ask by itself.
        var asked = await AgentProcess.RunAsync(TimeSpan.FromSeconds(30), "restored", snapshot.Output, "--qmp", target.QmpSocket, "--json");
        Assert.Contains("\"guestState\":\"paused\"", asked.StandardOutput, StringComparison.Ordinal);
        // The guest has not started yet: pages touched while loading the devices must not count as its start order.
        Assert.False(File.Exists(Path.Combine(snapshot.Output, "start-order")));
        await target.ContinueVcpusAsync();
        await Machines.AssertLivesAsync(target);
    }

    /// <summary>
    /// QEMU 10 finds the guest stopped, because its disks are cut in the same stop, and writes that state into its stream.
    /// </summary>
    [SkippableTheory]
    [InlineData("stream")]
    [InlineData("instant")]
    public async Task A_guest_that_ran_when_QEMUs_own_engine_took_it_with_its_disks_runs(string mode)
    {
        var options = DiskMachines.Writing(QemuVersion.Unpacked10, new TestDisk { Name = "vda" }) with { MemoryMiB = 128 };
        await using var vm = await Requirements.StartAsync(options);
        await DiskMachines.WritesOnAsync(vm, "its start");
        var snapshot = await Agent.CaptureAsync(vm, "snapshot", "--engine=qemu", "--disks=all", "--scratch", vm.Folder);

        await using var target = await VirtualMachine.StartAsync(options with { Incoming = "defer" });
        var outcome = await RestoreOutcome.OfAsync(snapshot.Output, target, $"--mode={mode}");

        Assert.True(outcome.Process.ExitCode == 0, $"{outcome}\n{target.Describe()}");
        Assert.Equal("running", await target.Qmp.RunStateAsync());
        await DiskMachines.WritesOnAsync(target, "the restore");
    }

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Stock_QEMU_leaves_the_guest_of_an_exported_stream_as_it_was(bool paused)
    {
        var options = Machines.Counting(QemuVersion.Unpacked10, "q35", RamKind.Anonymous) with { Disks = [new TestDisk { Name = "vda" }] };
        await using var vm = await Requirements.StartAsync(options);
        await Machines.WarmUpAsync(vm);
        if (paused)
            await vm.StopVcpusAsync();
        var engine = paused ? "agent" : "qemu";
        var snapshot = await Agent.CaptureAsync(vm, "snapshot", $"--engine={engine}", "--disks=all", "--scratch", vm.Folder);
        var stream = await Agent.ExportAsync(snapshot.Output);

        await using var target = await VirtualMachine.StartAsync(options with { Incoming = $"exec:cat {stream}" });
        for (var end = DateTime.UtcNow.AddSeconds(60); await target.Qmp.RunStateAsync() == "inmigrate"; await Task.Delay(50))
            Assert.True(DateTime.UtcNow < end, "QEMU did not load the stream");

        Assert.Equal(paused ? "paused" : "running", await target.Qmp.RunStateAsync());
        if (paused)
            await target.ContinueVcpusAsync();
        await Machines.AssertLivesAsync(target);
    }

    /// <summary>Such a QEMU writes no run state for a guest that runs or is paused.</summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task A_paused_guest_of_a_QEMU_that_writes_no_run_state_stays_paused(QemuVersion version)
    {
        var options = new VirtualMachineOptions
        {
            Version = version,
            MemoryMiB = 64,
            Guest = new FirmwareGuest(),
            ExtraArguments = ["-global", "migration.store-global-state=off"],
        };
        await using var vm = await Requirements.StartAsync(options);
        await vm.StopVcpusAsync();
        var snapshot = await Agent.CaptureAsync(vm, "snapshot", "--engine=agent");

        await using var target = await VirtualMachine.StartAsync(options with { Incoming = "defer" });
        await Agent.RestoreAsync(snapshot.Output, target);

        Assert.Equal("paused", await target.Qmp.RunStateAsync());
        await target.ContinueVcpusAsync();
        Assert.Equal("running", await target.Qmp.RunStateAsync());
    }

    /// <summary>Machine types before 2.4 write sections without a footer, which our restore cannot read.</summary>
    [SkippableTheory]
    [InlineData("agent")]
    [InlineData("auto")]
    public async Task A_machine_type_whose_state_cannot_be_restored_is_not_captured(string engine)
    {
        var options = new VirtualMachineOptions
        {
            Machine = "pc-i440fx-2.3",
            MemoryMiB = 64,
            Guest = new FirmwareGuest(),
        };
        await using var vm = await Requirements.StartAsync(options);

        var outcome = await Agent.TryCaptureAsync(vm, "snapshot", null, $"--engine={engine}");

        Assert.True(outcome.Error is { Reason: "DeviceStateUnknown", ExitCode: 1 }, outcome.Process.ToString());
        Assert.False(Directory.Exists(Path.Combine(vm.Folder, "snapshot")));
        Assert.Equal("running", await vm.Qmp.RunStateAsync());
    }
}
