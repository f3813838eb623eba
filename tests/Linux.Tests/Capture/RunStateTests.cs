using System.Text.Json.Nodes;
using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Capture;

/// <summary>
/// The user pauses, resumes or suspends the guest during a capture: the guest ends in the state that the user asked for, or in its former
/// state.
/// </summary>
public class RunStateTests
{
    /// <summary>Hook points: seconds before the agent sends the stop, and right before.</summary>
    private const string Gap = "protected-ahead",
        Last = "armed";

    /// <summary>
    /// The agent has already checked the state: its <c>cont</c> then resumes a paused guest. The agent notices that and pauses the guest
    /// again.
    /// </summary>
    [SkippableFact]
    public async Task A_guest_that_is_paused_between_the_last_look_and_the_stop_is_paused_again_and_nothing_is_kept()
    {
        await using var vm = await Requirements.StartAsync(Writing(QemuVersion.Unpacked10));

        var outcome = await HeldCapturePoint.CaptureAsync(vm, Last, vm.StopVcpusAsync, Disks(vm, true));

        Assert.Equal("paused", await vm.Qmp.RunStateAsync());
        Assert.True(outcome.Error?.Reason == "GuestStateChanged", outcome.Process.ToString());
        await vm.ContinueVcpusAsync();
        await DiskMachines.WritesOnAsync(vm, "the capture");
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System, Gap, true)]
    [InlineData(QemuVersion.Unpacked10, Gap, false)]
    public async Task A_guest_that_is_paused_before_the_window_stays_so_and_its_snapshot_says_so(
        QemuVersion version,
        string point,
        bool disks
    )
    {
        await using var vm = await Requirements.StartAsync(Writing(version));

        var outcome = await HeldCapturePoint.CaptureAsync(vm, point, vm.StopVcpusAsync, Disks(vm, disks));

        Assert.Equal("paused", await vm.Qmp.RunStateAsync());
        Assert.True(outcome.Summary is { Paused: true, DowntimeMicroseconds: 0 }, outcome.Process.ToString());
        Assert.DoesNotContain(vm.Qmp.Events, e => e.Name == "RESUME");
        await JudgeAsync(outcome, disks);
        await vm.ContinueVcpusAsync();
        await DiskMachines.WritesOnAsync(vm, "the capture");
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System, Gap, true)]
    [InlineData(QemuVersion.Unpacked10, Last, true)]
    [InlineData(QemuVersion.Unpacked10, Gap, false)]
    public async Task A_guest_that_is_resumed_before_the_window_is_captured_as_a_running_one(QemuVersion version, string point, bool disks)
    {
        await using var vm = await Requirements.StartAsync(Writing(version));
        await vm.StopVcpusAsync();

        var outcome = await HeldCapturePoint.CaptureAsync(
            vm,
            point,
            async () =>
            {
                await vm.ContinueVcpusAsync();
                await DiskMachines.WritesOnAsync(vm, "its user resumed it");
            },
            Disks(vm, disks)
        );

        Assert.True(outcome.Summary is { Paused: false, DowntimeMicroseconds: > 0 }, outcome.Process.ToString());
        await JudgeAsync(outcome, disks);
        await DiskMachines.WritesOnAsync(vm, "the capture");
    }

    /// <remarks>
    /// With disks, our <c>cont</c> undoes a pause that the user asks for inside the window: docs/design/0017 says why that remains.
    /// </remarks>
    [SkippableTheory]
    [InlineData("released", "stop", true)]
    [InlineData("stopped", "stop", false)]
    [InlineData("released", "stop", false)]
    [InlineData("stopped", "cont", true)]
    [InlineData("released", "cont", false)]
    public async Task A_guest_ends_in_the_state_that_its_user_asked_for_in_the_window(string point, string command, bool disks)
    {
        await using var vm = await Requirements.StartAsync(Writing(QemuVersion.Unpacked10));
        var asked = Task.FromResult(true);

        var outcome = await HeldCapturePoint.CaptureAsync(
            vm,
            point,
            async () =>
            {
                // QEMU may handle the request only after the window.
                asked = TryAsync(vm, command);
                await Task.Delay(50);
            },
            Disks(vm, disks)
        );

        var paused = await asked && command == "stop";
        var state = await vm.Qmp.RunStateAsync();
        // A loaded host may run the user's command before our `cont`, which then undoes the pause.
        if (paused && disks && state == "running")
            paused = false;
        Assert.Equal(paused ? "paused" : "running", state);
        Assert.True(outcome.Summary is not null || outcome.Error?.Reason == "GuestStateChanged", outcome.Process.ToString());
        if (outcome.Summary is not null)
            await JudgeAsync(outcome, disks);
        if (paused)
            await vm.ContinueVcpusAsync();
        await DiskMachines.WritesOnAsync(vm, "the capture");
    }

    /// <summary>A capture that should stop the guest for good, but fails, restores the guest's former state.</summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System, true)]
    [InlineData(QemuVersion.Unpacked10, true)]
    [InlineData(QemuVersion.Unpacked10, false)]
    public async Task A_lasting_stop_that_fails_leaves_the_guest_as_its_user_wanted_it(QemuVersion version, bool pauses)
    {
        await using var vm = await Requirements.StartAsync(Writing(version));

        var outcome = await HeldCapturePoint.CaptureAsync(
            vm,
            Gap,
            async () =>
            {
                if (pauses)
                    await vm.StopVcpusAsync();
                await vm.Qmp.ExecuteAsync("device_add", new JsonObject { ["driver"] = "virtio-rng-pci", ["id"] = "rng1" });
            },
            [.. Disks(vm, disks: true), "--after=stop"]
        );

        Assert.True(outcome.Error?.Reason == "MachineChanged", outcome.Process.ToString());
        Assert.Equal(pauses ? "paused" : "running", await vm.Qmp.RunStateAsync());
        if (pauses)
            await vm.ContinueVcpusAsync();
        await DiskMachines.WritesOnAsync(vm, "the capture");
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System, false)]
    [InlineData(QemuVersion.Unpacked10, false)]
    [InlineData(QemuVersion.Unpacked10, true)]
    public async Task A_suspended_guest_is_refused_and_wakes_up_as_if_nothing_had_been(QemuVersion version, bool disks)
    {
        await using var vm = await SleeperAsync(version);
        await SuspendAsync(vm);

        var outcome = await Agent.TryCaptureAsync(vm, "snapshot", null, Disks(vm, disks));

        Assert.True(outcome.Process.ExitCode == 3 && outcome.Error?.Reason == "GuestSuspended", outcome.Process.ToString());
        await WakesUpAsync(vm);
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System, Gap, true)]
    [InlineData(QemuVersion.System, Last, false)]
    [InlineData(QemuVersion.System, Last, true)]
    [InlineData(QemuVersion.Unpacked10, Gap, false)]
    [InlineData(QemuVersion.Unpacked10, Last, false)]
    [InlineData(QemuVersion.Unpacked10, Last, true)]
    public async Task A_guest_that_suspends_before_the_window_is_suspended_afterwards(QemuVersion version, string point, bool disks)
    {
        await using var vm = await SleeperAsync(version);

        var outcome = await HeldCapturePoint.CaptureAsync(vm, point, () => SuspendAsync(vm), Disks(vm, disks));

        Assert.True(outcome.Process.ExitCode != 0 && outcome.Error?.Reason == "GuestSuspended", outcome.Process.ToString());
        await WakesUpAsync(vm);
    }

    private static VirtualMachineOptions Writing(QemuVersion version) =>
        DiskMachines.Writing(version, new TestDisk { Name = "vda" }) with
        {
            MemoryMiB = 128,
        };

    private static string[] Disks(VirtualMachine vm, bool disks) =>
        ["--engine=agent", disks ? "--disks=all" : "--disks=none", "--scratch", vm.Folder];

    private static async Task<bool> TryAsync(VirtualMachine vm, string command)
    {
        try
        {
            await vm.Qmp.ExecuteAsync(command);
            return true;
        }
        catch (QmpErrorException e) when (e.Message.Contains("dump in process", StringComparison.Ordinal))
        {
            return false;
        }
    }

    private static async Task JudgeAsync(CaptureOutcome outcome, bool disks)
    {
        Assert.True(outcome.Summary is not null, outcome.Process.ToString());
        Assert.True(SnapshotFormat.Store.SnapshotVerifier.Verify(outcome.Summary.Output).IsSound);
        if (!disks)
            return;
        var verdict = await SnapshotDisks.JudgeAsync(outcome.Summary.Output);
        Assert.True(verdict.Agrees, verdict.ToString());
    }

    private static async Task<VirtualMachine> SleeperAsync(QemuVersion version)
    {
        var vm = await Requirements.StartAsync(
            new VirtualMachineOptions
            {
                Version = version,
                MemoryMiB = 64,
                Guest = new FirmwareGuest(),
                Disks = [new TestDisk { Name = "vda" }],
            }
        );
        await Task.Delay(1500); // the firmware sets up the power management ports
        return vm;
    }

    /// <summary>Does what a guest does to enter ACPI S3.</summary>
    private static async Task SuspendAsync(VirtualMachine vm)
    {
        for (var i = 0; i < 100; i++, await Task.Delay(100))
        {
            await vm.Qmp.HumanAsync("o/w 0x604 0x2400");
            await Task.Delay(20);
            if (await vm.Qmp.RunStateAsync() == "suspended")
                return;
        }

        throw new TimeoutException($"It does not suspend.\n{vm.Describe()}");
    }

    private static async Task WakesUpAsync(VirtualMachine vm)
    {
        Assert.Equal("suspended", await vm.Qmp.RunStateAsync());
        await vm.Qmp.ExecuteAsync("system_wakeup", new JsonObject());
        for (var i = 0; await vm.Qmp.RunStateAsync() != "running"; i++, await Task.Delay(20))
            Assert.True(i < 3000, await vm.Qmp.RunStateAsync());
    }
}
