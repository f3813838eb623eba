using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Capture;

/// <summary>
/// The host's clock is set back in the stop window: QEMU's events look older than the stop that caused them. The guest keeps its state, and
/// no snapshot is kept that could show another one. The agent's clock is ahead until the point, which looks the same to the agent.
/// </summary>
public class ClockTests
{
    private static readonly TimeSpan SoonEnough = TimeSpan.FromSeconds(8);

    [SkippableTheory]
    [InlineData(QemuVersion.System, "stop-sent", "all", "continue")]
    [InlineData(QemuVersion.System, "stopped", "none", "continue")]
    [InlineData(QemuVersion.Unpacked10, "protected", "all", "continue")]
    [InlineData(QemuVersion.Unpacked10, "released", "none", "continue")]
    [InlineData(QemuVersion.System, "stop-sent", "all", "stop")]
    [InlineData(QemuVersion.Unpacked10, "stop-sent", "none", "stop")]
    public async Task A_clock_set_back_in_the_window_fails_the_capture_and_the_guest_runs(
        QemuVersion version,
        string point,
        string disks,
        string after
    )
    {
        await using var vm = await Requirements.StartAsync(Writing(version));

        var outcome = await CaptureAsync(vm, point, disks, after);

        Assert.True(outcome.Error is { Reason: "GuestStateChanged", ExitCode: 1 }, outcome.Process.ToString());
        Assert.Contains("clock was set back", outcome.Error.Message, StringComparison.Ordinal);
        Assert.True(outcome.Process.Took < SoonEnough, outcome.Process.ToString());
        await DiskMachines.WritesOnAsync(vm, point);
        Assert.Equal(0, (await Agent.TryCaptureAsync(vm, "next", null, "--engine=agent", "--disks=none")).Process.ExitCode);
    }

    [SkippableTheory]
    [InlineData("continue")]
    [InlineData("stop")]
    public async Task A_guest_that_its_user_had_paused_stays_paused(string after)
    {
        await using var vm = await Requirements.StartAsync(Writing(QemuVersion.Unpacked10));
        await vm.StopVcpusAsync();

        var outcome = await CaptureAsync(vm, "stop-sent", "none", after);

        Assert.True(outcome.Error is { Reason: "GuestStateChanged", ExitCode: 1 }, outcome.Process.ToString());
        Assert.Equal("paused", await vm.Qmp.RunStateAsync());
        await vm.ContinueVcpusAsync();
        await DiskMachines.WritesOnAsync(vm, "the capture");
    }

    private static Task<CaptureOutcome> CaptureAsync(VirtualMachine vm, string point, string disks, string after) =>
        Agent.TryCaptureAsync(
            vm,
            "snapshot",
            Agent.Hook($"set-back:{point}"),
            "--engine=agent",
            $"--disks={disks}",
            "--scratch",
            vm.Folder,
            $"--after={after}"
        );

    private static VirtualMachineOptions Writing(QemuVersion version) =>
        DiskMachines.Writing(version, new TestDisk { Name = "vda" }) with
        {
            MemoryMiB = 128,
        };
}
